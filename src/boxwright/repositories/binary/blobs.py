"""Content by digest: checked as it comes, never longer than its record says, put only where it is not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence

from boxwright.errors import BoxwrightError, FetchError
from boxwright.files import hash_file, write_all
from boxwright.model.digest import digest_from_hex
from boxwright.repositories.binary.packing import packed, unpacked
from boxwright.repositories.binary.place import Place, Source, Upload
from boxwright.repositories.binary.records import Blob, blob_name


def fetch_blob(source: Source, blob: Blob, target: str, cancelled: Callable[[], bool]) -> None:
    """Write a blob to the new file `target`; nothing is left there where it is not what its digest says."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _save(source, blob, descriptor, cancelled)
    except OSError as error:
        os.unlink(target)
        raise FetchError("repository.no-space", f"{target} can't be written: {error.strerror}") from error
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(descriptor)


def _save(source: Source, blob: Blob, descriptor: int, cancelled: Callable[[], bool]) -> None:
    digest, size = hashlib.sha256(), 0
    for piece in source.read(blob_name(blob.digest)):
        size += len(piece)
        if cancelled():
            raise BoxwrightError("build.cancelled", "cancelled")
        if size > blob.size:
            break
        digest.update(piece)
        write_all(descriptor, piece)
    _check(source, blob, size, digest.hexdigest())


def read_blob(source: Source, blob: Blob) -> bytes:
    """A small blob's bytes."""
    pieces, size = [], 0
    for piece in source.read(blob_name(blob.digest)):
        size += len(piece)
        pieces.append(piece)
        if size > blob.size:
            break
    data = b"".join(pieces)
    _check(source, blob, size, hashlib.sha256(data).hexdigest())
    return data


def read_packed(source: Source, blob: Blob) -> bytes:
    """What a small compressed blob holds."""
    return unpacked(read_blob(source, blob), blob.plain, f"{source.where}: {blob_name(blob.digest)}")


def _check(source: Source, blob: Blob, size: int, digest: str) -> None:
    name = blob_name(blob.digest)
    if size > blob.size:
        raise FetchError("repository.too-long", f"{source.where}: {name} does not end after its {blob.size} bytes")
    if size < blob.size:
        raise FetchError("repository.truncated", f"{source.where}: {name} ends after {size} of {blob.size} bytes")
    if digest_from_hex(digest) != blob.digest:
        raise FetchError("repository.altered", f"{source.where}: {name} has other bytes than its name says")


def blob_of(data: bytes, plain: int = 0) -> Blob:
    """What names these bytes."""
    return Blob(digest_from_hex(hashlib.sha256(data).hexdigest()), len(data), plain)


def packed_blob(data: bytes) -> tuple[Blob, bytes]:
    """`data` compressed, and what names it."""
    compressed = packed(data)
    return blob_of(compressed, len(data)), compressed


def blob_of_file(path: str, plain: int = 0) -> Blob:
    """What names the bytes of a file."""
    return Blob(digest_from_hex(hash_file(path)), os.stat(path).st_size, plain)


def upload(blob: Blob, data: bytes = b"", path: str = "") -> Upload:
    """A blob as it is put."""
    return Upload(blob_name(blob.digest), data, path)


def put_missing(place: Place, uploads: Sequence[Upload]) -> int:
    """Put those that are not there; returns how many bytes went over."""
    wanted: Mapping[str, Upload] = {it.name: it for it in uploads}
    there = place.present(list(wanted))
    missing = [it for name, it in wanted.items() if name not in there]
    place.put(missing)
    return sum(os.stat(it.path).st_size if it.path else len(it.data) for it in missing)
