"""The segments of a package or an index: gzip members in a row, each a tar (apk-package(5), "PACKAGE FORMAT V2")."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from boxwright.errors import FetchError
from boxwright.sources import tarmembers as tar
from boxwright.sources.compressed import damaged, plain_reader

_CHUNK = 64 << 10
_LARGEST = 16 << 20
"""The most that a signature or control segment comes to; real ones have some kilobytes."""


class Segment(NamedTuple):
    """Where a gzip member lies in its file, and its plain bytes."""

    start: int
    end: int
    data: bytes


def read_segment(file: BinaryIO, start: int) -> Segment:
    """The gzip member that begins at `start` (RFC 1952)."""
    file.seek(start)
    inflate = zlib.decompressobj(31)
    plain: list[bytes] = []
    size = taken = 0
    try:
        while not inflate.eof:
            data = inflate.unconsumed_tail or file.read(_CHUNK)
            if not data:
                raise damaged("it ends early")
            taken += 0 if inflate.unconsumed_tail else len(data)
            plain.append(inflate.decompress(data, _CHUNK))
            size += len(plain[-1])
            if size > _LARGEST:
                raise FetchError("unpack.too-large", f"a package's description is larger than {_LARGEST} bytes")
    except zlib.error as error:
        raise damaged(str(error)) from error
    return Segment(start, start + taken - len(inflate.unused_data), b"".join(plain))


def files_of(data: bytes | BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the files of a small tar, which may lack its end mark."""
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    with plain_reader(source) as stream:
        for member in tar.members(stream, need_end=False):
            if member.size > _LARGEST * 4:
                raise FetchError("unpack.too-large", f"an index of {member.size} bytes")
            content = tar.exactly(stream, member.size)
            tar.skip(stream, -member.size % tar.BLOCK)
            yield member.name, content


def digest_range(file: BinaryIO, algorithm: str, start: int, end: int | None = None) -> bytes:
    """The digest of the bytes from `start` to `end` (None: the file's end)."""
    file.seek(start)
    digest = hashlib.new(algorithm)
    left = end - start if end is not None else -1
    while left and (data := file.read(min(1 << 20, left) if left > 0 else 1 << 20)):
        digest.update(data)
        left -= len(data) if left > 0 else 0
    return digest.digest()
