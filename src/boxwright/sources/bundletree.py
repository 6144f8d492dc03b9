"""The files of a directory for a bundle, in git's order, so that a checkout and its commit give the same bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator

from boxwright.errors import BoxwrightError
from boxwright.model.bundle import DIRECTORY, LINK, BundleFile, plain_mode
from boxwright.sources.ignore import IgnoreRules

IGNORE_FILE = ".bundleignore"
LFS = b"version https://git-lfs.github.com/spec/"
LFS_MOST = 1024


def read_directory(directory: str, prefix: str = "") -> Iterator[BundleFile]:
    """Every file below `directory`, and its empty directories; ``.git`` is never read. Raises `bundle.special`."""
    entries = [it for it in os.scandir(directory) if it.name != ".git"]
    if not entries and prefix:
        yield BundleFile(prefix.rstrip("/"), DIRECTORY)
    for entry in sorted(entries, key=lambda it: os.fsencode(it.name + "/" * it.is_dir(follow_symlinks=False))):
        path = f"{prefix}{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            target = os.fsencode(os.readlink(entry.path))
            yield BundleFile(path, LINK, len(target), data=target)
        elif entry.is_dir(follow_symlinks=False):
            yield from read_directory(entry.path, f"{path}/")
        elif entry.is_file(follow_symlinks=False):
            yield BundleFile(path, plain_mode(status.st_mode), status.st_size, entry.path)
        else:
            hint = f"name it in {IGNORE_FILE}, or remove it"
            raise BoxwrightError("bundle.special", f"{path} is neither a file, a directory nor a link", hint=hint)


class Selection:
    """Which files go into a bundle: .bundleignore, and what bundle.yaml includes and excludes."""

    def __init__(self, ignore: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._ignore = IgnoreRules.parse(ignore, IGNORE_FILE)
        self._include = IgnoreRules.parse("\n".join(include), "include") if include else None
        self._exclude = IgnoreRules.parse("\n".join(exclude), "exclude")

    def takes(self, path: str) -> bool:
        """Whether `path` goes in."""
        if self._ignore.ignored(path) or self._exclude.ignored(path):
            return False
        return self._include is None or self._include.ignored(path)


def is_lfs_pointer(file: BundleFile) -> bool:
    """Whether a file only says where git-lfs keeps the real one."""
    if file.is_link or not file.place or not len(LFS) <= file.size <= LFS_MOST:
        return False
    with open(file.place, "rb") as stream:
        stream.seek(file.offset)
        return stream.read(len(LFS)) == LFS


def read_small(file: BundleFile) -> str:
    """The text of a small file. Raises BoxwrightError `bundle.text`."""
    if not file.place:
        return file.data.decode("utf-8", "replace")
    with open(file.place, "rb") as stream:
        stream.seek(file.offset)
        data = stream.read(min(file.size, 1 << 20))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BoxwrightError("bundle.text", f"{file.path} is no UTF-8 text") from error
