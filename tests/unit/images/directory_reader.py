"""A TreeReader over a directory on disk, for tests: scanned as the store would, kept nowhere."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from boxwright.model.digest import Digest
from boxwright.model.image import Image, ImageConfig, Snapshot
from boxwright.model.tree import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    Manifest,
    encode_xattrs,
)
from boxwright.ports import TreeFile

ZERO = Digest("sha256:" + "0" * 64)
SNAPSHOT = Snapshot(ZERO, (), Manifest(ZERO, ZERO), 0)
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}


class DirectoryReader:
    """Walks `root`. A group of hard links has its content at the first of its paths by bytes, as in a manifest."""

    def __init__(self, root: Path) -> None:
        self._top = str(root)
        paths = [""]
        self._walk(root, "", paths)
        groups: dict[tuple[int, int], list[str]] = {}
        for path in paths:
            state = os.lstat(f"{root}/{path}")
            if state.st_nlink > 1 and not stat.S_ISDIR(state.st_mode):
                groups.setdefault((state.st_dev, state.st_ino), []).append(path)
        first = {path: min(group, key=os.fsencode) for group in groups.values() for path in group}
        self.files = [self._file(path, first.get(path, path)) for path in paths]

    def _walk(self, directory: Path, prefix: str, paths: list[str]) -> None:
        for item in sorted(os.scandir(directory), key=lambda item: os.fsencode(item.name)):
            paths.append(prefix + item.name)
            if item.is_dir(follow_symlinks=False):
                self._walk(Path(item.path), f"{prefix}{item.name}/", paths)

    def _file(self, path: str, first: str) -> TreeFile:
        physical = f"{self._top}/{path}" if path else self._top
        state = os.lstat(physical)
        kind = _KINDS[stat.S_IFMT(state.st_mode)]
        size, data, place = 0, "", None
        if kind == FILE:
            size, place = state.st_size, physical
            data = hashlib.sha256(Path(physical).read_bytes()).hexdigest()
        elif kind == SYMLINK:
            data = os.readlink(physical)
        elif kind in (CHAR, BLOCK):
            data = f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}"
        if first != path:
            kind, data, place = HARDLINK, first, None
        pairs = [(name, os.getxattr(physical, name, follow_symlinks=False)) for name in attributes(physical)]
        mode, name = stat.S_IMODE(state.st_mode), path.rpartition("/")[2]
        entry = Entry(kind, name, mode, state.st_uid, state.st_gid, int(state.st_mtime // 1), size, data)
        return TreeFile(path, entry._replace(xattrs=encode_xattrs(pairs)), place)

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path, parents first."""
        return iter(self.files)


def attributes(path: str) -> list[str]:
    """The extended attributes that a test looks at."""
    return [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("security.selinux")]


class ListReader:
    """Walks files that a test made up."""

    def __init__(self, files: list[TreeFile]) -> None:
        self.files = files

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path, as given."""
        return iter(self.files)


def image_of(config: ImageConfig | None = None, created: int = 1_700_000_000) -> Image:
    """An image with a made-up identity."""
    identity = Digest("sha256:" + "ab" * 32)
    return Image(identity, config or ImageConfig("amd64"), SNAPSHOT, created, 0)
