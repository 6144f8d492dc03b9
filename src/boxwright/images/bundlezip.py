"""A bundle as a ZIP: the same files and time give the same bytes on any machine.

APPNOTE.TXT 6.3.10: names are UTF-8, times are UTC, "version made by" is UNIX and the external attributes hold the mode.
"""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, Self

from boxwright.errors import BoxwrightError, MachineError
from boxwright.model.bundle import DIRECTORY, BundleFile

LEVEL = 6
EARLIEST, LATEST = 315532800, 4354819198
"""1980-01-01 and 2107-12-31 23:59:58, in seconds since 1970: what a ZIP's times can say."""
AT_ONCE = 4 << 20
UNIX = 3
PROBE = bytes(range(256)) * 8 + b"the quick brown fox jumps over the lazy dog, again and again and again " * 40
PROBE_DIGEST = "159a05295cb5c0ea34c6375f43c8b86c2753a971b46cd996d74641670b83e8b3"


def write_zip(files: Iterable[BundleFile], destination: str, seconds: int, *, store: bool = False) -> list[str]:
    """Write the files in their order, all with one time; returns their paths.

    `store`: without compression. Raises BoxwrightError `bundle.name`, `bundle.link`, `bundle.twice`, `bundle.changed`,
    MachineError `bundle.zlib`.
    """
    if not store:
        _require_zlib()
    when = time.gmtime(min(max(seconds, EARLIEST), LATEST))[:6]
    method = zipfile.ZIP_STORED if store else zipfile.ZIP_DEFLATED
    written: set[str] = set()
    with zipfile.ZipFile(destination, "w", method, compresslevel=LEVEL) as archive, _Reading() as reading:
        for file in files:
            check_path(file)
            if file.path in written:
                raise BoxwrightError("bundle.twice", f"two files would be {file.path} in the bundle")
            written.add(file.path)
            info = zipfile.ZipInfo(file.path, when)
            info.create_system = UNIX
            info.external_attr = file.mode << 16
            info.compress_type = method
            _write(archive, info, file, reading)
    return sorted(written)


def check_path(file: BundleFile) -> None:
    """Raise where a name or a link would be refused when the bundle is unpacked."""
    path = file.path
    parts = path.split("/")
    if path.startswith("/") or not {"", ".", ".."}.isdisjoint(parts):
        raise BoxwrightError("bundle.name", f"{path!r} is no path inside a bundle")
    if not path.isprintable() or "\\" in path:
        hint = "names are UTF-8 without control characters and backslashes: rename it"
        raise BoxwrightError("bundle.name", f"the name {path!r} can't be in a bundle", hint=hint)
    if not file.is_link:
        return
    target = file.data.decode("utf-8", "surrogateescape")
    depth = len(parts) - 1
    for part in target.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            break
    if target.startswith("/") or depth < 0 or not target.isprintable() or "\\" in target:
        hint = "links in a bundle are relative and stay inside: change it, or leave it out in .bundleignore"
        raise BoxwrightError("bundle.link", f"the link {path} leads out of the bundle, to {target!r}", hint=hint)


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BundleFile, reading: _Reading) -> None:
    if file.mode == DIRECTORY:
        info.filename += "/"
        info.external_attr |= 0x10
        info.compress_type = zipfile.ZIP_STORED
        archive.writestr(info, b"")
    elif file.is_link or not file.place:
        archive.writestr(info, file.data)
    elif file.size <= AT_ONCE:
        archive.writestr(info, reading.at(file, 0, file.size))
    else:
        info.file_size = file.size
        with archive.open(info, "w") as member:
            _stream(file, reading, member)


def _stream(file: BundleFile, reading: _Reading, member: IO[bytes]) -> None:
    for start in range(0, file.size, AT_ONCE):
        member.write(reading.at(file, start, min(AT_ONCE, file.size - start)))


class _Reading:
    """Reads files at their places; the last one stays open, since an archive holds many."""

    def __init__(self) -> None:
        self._place = ""
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def at(self, file: BundleFile, start: int, size: int) -> bytes:
        """`size` bytes from `start` on. Raises BoxwrightError `bundle.changed`."""
        if file.place != self._place:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = os.open(file.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._place = file.place
        data = os.pread(self._fd, size, file.offset + start)
        if len(data) != size or (not file.offset and os.fstat(self._fd).st_size != file.size):
            raise BoxwrightError("bundle.changed", f"{file.path} changed while it was read", hint="bundle again")
        return data


def _require_zlib() -> None:
    """Bytes are the same everywhere as long as deflate is zlib's; others (zlib-ng) compress otherwise."""
    if hashlib.sha256(zlib.compress(PROBE, LEVEL)).hexdigest() != PROBE_DIGEST:
        message = f"this Python's zlib ({zlib.ZLIB_RUNTIME_VERSION}) compresses otherwise than others do"
        hint = "bundle with --store, or compress: false in bundle.yaml, or use a Python with the usual zlib"
        raise MachineError("bundle.zlib", message, hint=hint)
