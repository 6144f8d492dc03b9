"""Looks for passwords in what a step left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_PIECE = 1 << 20


class Leak(NamedTuple):
    """Where a password was found (a path without a leading slash), and what it is called."""

    path: str
    name: str


def find_leak(directory: str, passwords: Mapping[bytes, str]) -> Leak | None:
    """The first path below `directory` whose name, link target, attribute or content holds one of `passwords`."""
    if not passwords:
        return None
    for path, physical in _paths(directory, ""):
        for password, name in passwords.items():
            if _holds(physical, password):
                return Leak(path, name)
    return None


def _paths(directory: str, prefix: str) -> Iterator[tuple[str, str]]:
    with os.scandir(directory) as listing:
        items = sorted(listing, key=lambda item: os.fsencode(item.name))
    for item in items:
        yield f"{prefix}{item.name}", item.path
        if item.is_dir(follow_symlinks=False):
            yield from _paths(item.path, f"{prefix}{item.name}/")


def _holds(path: str, password: bytes) -> bool:
    status = os.lstat(path)
    if password in os.fsencode(os.path.basename(path)):
        return True
    if stat.S_ISLNK(status.st_mode):
        return password in os.readlink(os.fsencode(path))
    names = os.listxattr(path, follow_symlinks=False)
    if any(password in os.getxattr(path, name, follow_symlinks=False) for name in names):
        return True
    if not stat.S_ISREG(status.st_mode) or status.st_size < len(password):
        return False
    return _content_holds(path, password)


def _content_holds(path: str, password: bytes) -> bool:
    """Read in pieces that overlap: mmap.find of Python 3.11 reads behind the end of a mapping of whole pages."""
    kept = b""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            if password in kept + piece:
                return True
            kept = piece[1 - len(password) :]
    return False
