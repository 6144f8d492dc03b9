"""Reads what a step left in an overlay's upper directory (kernel: Documentation/filesystems/overlayfs.rst)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from boxwright.files import hash_file
from boxwright.model.change import GONE, Change, Groups
from boxwright.model.tree import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    encode_xattrs,
)

KINDS = {
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}
OVERLAY_ATTRIBUTES = ("trusted.overlay.", "user.overlay.")


class Scan(NamedTuple):
    """What was found: the root's own entry, the changes below it, groups of hard links, and the bytes of files."""

    root: Entry
    changes: Mapping[str, Change]
    groups: Groups
    size: int


class _Found:
    """What one scan gathers: bytes of files, and the paths of each file that has several names."""

    def __init__(self, newest: int | None) -> None:
        self.newest = newest
        self.size = 0
        self.linked: dict[tuple[int, int], list[str]] = {}


def scan_upper(directory: str, newest: int | None) -> Scan:
    """Read an upper directory. A time later than `newest` (seconds) is set back to it, also on the disk.

    Sockets are passed over, as every image format does.
    """
    found = _Found(newest)
    changes = _directory(directory, "", found)
    root = _entry(directory, "", "", os.lstat(directory), found)
    groups = tuple(sorted(tuple(paths) for paths in found.linked.values() if len(paths) > 1))
    return Scan(root, changes, groups, found.size)


def _directory(directory: str, prefix: str, found: _Found) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    with os.scandir(directory) as listing:
        items = sorted(listing, key=lambda item: os.fsencode(item.name))
    for item in items:
        status = item.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        path = f"{prefix}{item.name}"
        if kind == stat.S_IFSOCK:
            continue
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            changes[item.name] = GONE
        elif kind == stat.S_IFDIR:
            children = _directory(item.path, f"{path}/", found)
            changes[item.name] = Change(
                _entry(item.path, path, item.name, status, found), children, is_opaque(item.path)
            )
        else:
            changes[item.name] = Change(_entry(item.path, path, item.name, status, found))
    return changes


def _entry(physical: str, path: str, name: str, status: os.stat_result, found: _Found) -> Entry:
    mtime = status.st_mtime_ns // 1_000_000_000
    if found.newest is not None and mtime > found.newest:
        mtime = found.newest
        os.utime(physical, (mtime, mtime), follow_symlinks=False)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    size = 0
    data = ""
    if kind == FILE:
        size = status.st_size
        first = _first_name(path, status, found)
        if first != path:
            kind, data = HARDLINK, first
        else:
            data = hash_file(physical)
            found.size += size
    elif kind == SYMLINK:
        data = os.readlink(physical)
    elif kind in (CHAR, BLOCK):
        data = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    attributes = read_xattrs(physical)
    return Entry(kind, name, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, mtime, size, data, attributes)


def _first_name(path: str, status: os.stat_result, found: _Found) -> str:
    if status.st_nlink == 1:
        return path
    paths = found.linked.setdefault((status.st_dev, status.st_ino), [])
    paths.append(path)
    return paths[0]


def read_xattrs(path: str) -> str:
    """A path's extended attributes without the overlay's own."""
    names = os.listxattr(path, follow_symlinks=False)
    if not names:
        return ""
    return encode_xattrs(
        [
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in names
            if not name.startswith(OVERLAY_ATTRIBUTES)
        ]
    )


def is_opaque(directory: str) -> bool:
    """Whether nothing of the layers below shows in this directory."""
    for prefix in OVERLAY_ATTRIBUTES:
        try:
            if os.getxattr(directory, f"{prefix}opaque", follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
