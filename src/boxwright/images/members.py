"""What an archive of a tree holds, in order, with every hard link behind the name that carries its content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from boxwright.errors import StoreError
from boxwright.model.image import Snapshot
from boxwright.model.tree import HARDLINK, Entry
from boxwright.ports import TreeFile, TreeReader


class Member(NamedTuple):
    """One path. `link` is the path, met before, that this one is a hard link to; None for all else.

    `entry` may be of kind "h" only where `link` is set.
    """

    path: str
    entry: Entry
    physical: str | None
    link: str | None


def members(reader: TreeReader, snapshot: Snapshot) -> Iterator[Member]:
    """Every path of `snapshot` in the order of the walk.

    The manifest puts the content of a group of hard links at its first name by path, and the walk may come to another
    one first ("a/x" before "a-b/x"): then that one carries the content here. Only such a tree is walked twice.
    """
    carried_by: dict[str, str] = {}
    late: dict[str, TreeFile] | None = None
    for file in reader.walk(snapshot):
        path, entry = file.path, file.entry
        if entry.kind != HARDLINK:
            yield Member(path, entry, file.physical, carried_by.get(path) if carried_by else None)
            continue
        first = carried_by.get(entry.data)
        if first is not None or _is_before(entry.data, path):
            yield Member(path, entry, None, first or entry.data)
            continue
        if late is None:
            late = _met_late(reader, snapshot)
        carrier = late.get(entry.data)
        if carrier is None:
            raise StoreError(
                "store.tree-damaged",
                f"the hard link {path} names {entry.data}, which is not there",
                hint="run 'boxwright fsck'",
            )
        carried_by[entry.data] = path
        yield Member(path, carrier.entry._replace(name=entry.name), carrier.physical, None)


def _is_before(path: str, other: str) -> bool:
    """Whether a walk comes to `path` before `other`."""
    return path.encode("utf-8", "surrogateescape").split(b"/") < other.encode("utf-8", "surrogateescape").split(b"/")


def _met_late(reader: TreeReader, snapshot: Snapshot) -> dict[str, TreeFile]:
    """The files that a hard link names before the walk comes to them."""
    wanted: set[str] = set()
    found: dict[str, TreeFile] = {}
    for file in reader.walk(snapshot):
        if file.entry.kind != HARDLINK:
            if file.path in wanted:
                found[file.path] = file
        elif not _is_before(file.entry.data, file.path):
            wanted.add(file.entry.data)
    return found
