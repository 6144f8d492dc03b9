"""Outputs that are there whole or not at all: written beside their destination and renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boxwright.errors import BoxwrightError

_BEGINNINGS = (b"hsqs", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh")
"""Magic numbers (file(1)) of squashfs, gzip, xz, zstd and bzip2; that of tar is further in."""
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def temporary_beside(destination: Path) -> Path:
    """A name beside `destination`, on the same file system, that no other process uses."""
    return destination.with_name(f".{destination.name}.{os.getpid()}-{os.urandom(4).hex()}.part")


@contextmanager
def telling(destination: Path) -> Iterator[None]:
    """Turn what the system says of `destination` into this program's errors."""
    try:
        yield
    except OSError as error:
        raise output_error(error, destination) from error


def output_error(error: OSError, destination: Path) -> BoxwrightError:
    """The error for `error`, met while `destination` was written."""
    reason = error.strerror or str(error)
    if error.errno in _SPACE:
        return no_space(destination, reason)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BoxwrightError(
            "output.not-writable",
            f"{destination} can't be written: {reason}",
            hint="choose a destination that you may write to",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BoxwrightError(
            "output.no-directory", f"{destination} can't be written: {reason}", hint=f"make {destination.parent} first"
        )
    return BoxwrightError("output.failed", f"{destination} can't be written: {reason}")


def no_space(destination: Path, reason: str) -> BoxwrightError:
    """The error for a full disk."""
    return BoxwrightError(
        "output.no-space",
        f"{destination} was not written: {reason}",
        hint="free some space there, or write the output elsewhere",
    )


@contextmanager
def fresh_file(destination: Path) -> Iterator[Path]:
    """A path to write to, which becomes `destination` at the end; on any failure nothing of it stays."""
    with telling(destination):
        if destination.is_dir():
            raise BoxwrightError(
                "output.is-directory", f"{destination} is a directory", hint="name a file that is to be written"
            )
        temporary = temporary_beside(destination)
        try:
            yield temporary
            temporary.replace(destination)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def fresh_directory(destination: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory to write to, which becomes `destination` at the end; on any failure nothing of it stays.

    `replace`: what is at `destination` may be taken away; else it may only be an empty directory.
    """
    with telling(destination):
        temporary = temporary_beside(destination)
        try:
            temporary.mkdir(mode=0o755)
            yield temporary
            if replace and destination.exists():
                _exchange(temporary, destination)
            else:
                temporary.rename(destination)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _exchange(temporary: Path, destination: Path) -> None:
    """Put `temporary` where `destination` is, and take away what was there."""
    aside = temporary_beside(destination)
    destination.rename(aside)
    try:
        temporary.rename(destination)
    except OSError:
        aside.rename(destination)
        raise
    shutil.rmtree(aside)


def is_empty(destination: Path) -> bool:
    """Whether nothing is at `destination`, or an empty directory."""
    if not destination.is_symlink() and not destination.exists():
        return True
    if not destination.is_dir():
        return False
    with os.scandir(destination) as found:
        return next(found, None) is None


def not_empty(destination: Path, what: str) -> BoxwrightError:
    """The refusal to write over something that is not ours."""
    return BoxwrightError(
        "output.not-empty",
        f"{destination} is there already and is not {what}",
        hint="choose another destination, or remove it first",
    )


def is_archive(path: str) -> bool:
    """Whether a regular file begins as images in one file do: squashfs, tar, or what compresses one."""
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
    return start.startswith(_BEGINNINGS) or start[_TAR_MAGIC_AT:] == _TAR_MAGIC
