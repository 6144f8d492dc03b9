"""Layers on the disk: where a snapshot's bytes lie, and long chains merged into one layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from boxwright.model.digest import hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE
from boxwright.ports import TreeFile
from boxwright.store.scan import OVERLAY_ATTRIBUTES, is_opaque
from boxwright.store.trees import Trees

MAX_CHAIN = 100
"""The longest chain of layers: an overlay takes 500, but each costs some 10 microseconds at each mount."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def layer_name(number: int) -> str:
    """A layer's directory name: its number in base 36, short because mount(2) takes one page of options."""
    name = ""
    while number:
        number, digit = divmod(number, 36)
        name = DIGITS[digit] + name
    return name or "0"


def walk(trees: Trees, layers: str, snapshot: Snapshot) -> Iterator[TreeFile]:
    """Every path of a snapshot, parents first, with the place of its bytes."""
    physical = [f"{layers}/{name}" for name in snapshot.layers]
    root = trees.entries(hex_of(snapshot.manifest.full))[""]
    yield TreeFile("", root, physical[0] if physical else None)
    yield from _walk(trees, root.full, "", physical)


def _walk(trees: Trees, full: str, prefix: str, places: list[str]) -> Iterator[TreeFile]:
    alone = places[0] if len(places) == 1 else None
    names = {} if alone else merged_names(places)
    for name, entry in trees.entries(full).items():
        path = f"{prefix}{name}"
        if entry.kind != DIRECTORY:
            where = f"{alone}/{name}" if alone else names.get(name, (None,))[0]
            yield TreeFile(path, entry, where if entry.kind == FILE else None)
            continue
        below = [f"{alone}/{name}"] if alone else shown_directories(names.get(name, ()))
        yield TreeFile(path, entry, below[0] if below else None)
        yield from _walk(trees, entry.full, f"{path}/", below)


def merged_names(places: Sequence[str]) -> dict[str, list[str]]:
    """For each name the paths that hold it, the topmost first."""
    names: dict[str, list[str]] = {}
    for place in places:
        with os.scandir(place) as listing:
            for item in listing:
                names.setdefault(item.name, []).append(item.path)
    return names


def shown_directories(paths: Sequence[str]) -> list[str]:
    """Of the paths that hold a name, those whose children show."""
    shown: list[str] = []
    for path in paths:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            break
        shown.append(path)
        if len(paths) > len(shown) and is_opaque(path):
            break
    return shown


def physical_path(layers: str, snapshot: Snapshot, path: str) -> str | None:
    """Where the bytes of `path` lie, which the snapshot's manifest must hold (no symbolic link leads to it)."""
    for name in snapshot.layers:
        candidate = f"{layers}/{name}/{path}"
        try:
            status = os.lstat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            return candidate
    return None


def merge(sources: Sequence[str], destination: str) -> None:
    """Make one layer of several (the topmost first) that lie on top of others; files are linked, not copied."""
    os.mkdir(destination)
    _merge_directory(sources, destination, hides=False)


def _merge_directory(sources: Sequence[str], destination: str, *, hides: bool) -> None:
    for name, paths in merged_names(sources).items():
        target = f"{destination}/{name}"
        shown = shown_directories(paths)
        if not shown:
            os.link(paths[0], target, follow_symlinks=False)
            continue
        os.mkdir(target)
        opaque = len(shown) < len(paths) or is_opaque(shown[-1])
        _merge_directory(shown, target, hides=opaque)
    _copy_attributes(sources[0], destination)
    if hides:
        prefix = OVERLAY_ATTRIBUTES[0] if os.geteuid() == 0 and not in_user_namespace() else OVERLAY_ATTRIBUTES[1]
        os.setxattr(destination, f"{prefix}opaque", b"y")


def _copy_attributes(source: str, destination: str) -> None:
    status = os.lstat(source)
    os.chown(destination, status.st_uid, status.st_gid)
    os.chmod(destination, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(OVERLAY_ATTRIBUTES):
            os.setxattr(destination, name, os.getxattr(source, name, follow_symlinks=False))
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace other than the first one."""
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        return lines.readline().split() != ["0", "0", "4294967295"]
