"""Reading compressed streams: which kind by its first bytes, and never more memory than was asked for."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from boxwright.errors import FetchError, MachineError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
"""RFC 1952, RFC 8878, xz-file-format, bzip2."""

_INPUT = 256 << 10
_OUTPUT = 1 << 20
_MEMORY = 512 << 20
"""The most that an xz or zstd stream may ask for: a level 19 or 9 stream needs far less."""


def damaged(what: str) -> FetchError:
    """The error for an archive that is not what it says it is."""
    return FetchError("unpack.damaged", f"the archive is damaged: {what}", hint="fetch it again")


class _Stage(Protocol):
    """What the standard library's decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflate:
    """zlib's decompressor, shaped like the other two."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        """Whether the member is at its end."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing is held back."""
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most `max_length` bytes more."""
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


def _bzip2() -> _Stage:
    return bz2.BZ2Decompressor()


def _xz() -> _Stage:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)


_STAGES: dict[str, Callable[[], _Stage]] = {"gzip": _Inflate, "bzip2": _bzip2, "xz": _xz}


class _Reader(io.RawIOBase):
    """The plain bytes of a row of compressed members; padding of zeros may follow the last."""

    def __init__(self, source: _Joined, make: Callable[[], _Stage]) -> None:
        self._source = source
        self._make = make
        self._stage: _Stage = make()
        self._ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """The next bytes, 0 at the end."""
        view = memoryview(buffer)
        while not self._ended:
            data = b""
            if self._stage.eof:
                if not self._next_member():
                    break
                continue
            if self._stage.needs_input:
                data = self._source.read(_INPUT)
                if not data:
                    raise damaged("it ends early")
            try:
                result = self._stage.decompress(data, len(view))
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise damaged(str(error)) from error
            if result:
                view[: len(result)] = result
                return len(result)
        return 0

    def _next_member(self) -> bool:
        rest = (self._stage.unused_data or self._source.read(_INPUT)).lstrip(b"\0")
        while not rest and (rest := self._source.read(_INPUT)):
            rest = rest.lstrip(b"\0")
        if not rest:
            self._ended = True
            return False
        self._stage = self._make()
        self._source.put_back(rest)
        return True


class _Joined:
    """Bytes that were read too early, and the stream that they came from."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first = first
        self._rest = rest

    def put_back(self, data: bytes) -> None:
        """What is read next."""
        self._first = data + self._first

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        if not self._first:
            return self._rest.read(size)
        data, self._first = self._first[:size], self._first[size:]
        return data


class _Zstd(io.RawIOBase):
    """zstandard's own reader, with its errors made ours."""

    def __init__(self, source: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise MachineError(
                "machine.no-zstd", "the Python library zstandard is missing", hint="pip install zstandard"
            ) from error
        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MEMORY >> 2)
        self._stream = decompressor.stream_reader(source, read_size=_INPUT, read_across_frames=True, closefd=False)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """The next bytes, 0 at the end."""
        try:
            return int(self._stream.readinto(buffer))
        except self._error as error:
            raise damaged(str(error)) from error


def compression_of(head: bytes) -> str:
    """The name of the compression that `head` begins: empty for none that is known."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), "")


def plain_reader(source: BinaryIO) -> io.BufferedReader:
    """A reader of the plain bytes of `source`, which may be compressed and need not be seekable."""
    head = b""
    while len(head) < 6 and (more := source.read(6 - len(head))):
        head += more
    joined = _Joined(head, source)
    kind = compression_of(head)
    if kind == "zstd":
        return io.BufferedReader(_Zstd(cast("BinaryIO", joined)), _OUTPUT)
    if kind:
        return io.BufferedReader(_Reader(joined, _STAGES[kind]), _OUTPUT)
    return io.BufferedReader(_Plain(joined), _OUTPUT)


class _Plain(io.RawIOBase):
    """A stream that is not compressed."""

    def __init__(self, source: _Joined) -> None:
        self._source = source

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """The next bytes, 0 at the end."""
        view = memoryview(buffer)
        data = self._source.read(len(view))
        view[: len(data)] = data
        return len(data)
