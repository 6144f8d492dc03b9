"""What one instruction changed, as a layer holds it (OCI image-spec, layer.md, "Representing Changes").

Two manifests are compared; what is equal in both, whole directories too, is not looked at. A path that is gone becomes
a whiteout; a directory stands before anything that changed below it, so that its time comes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from boxwright.images.members import Member
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, Entry
from boxwright.ports import LayerReader

WHITEOUT = ".wh."


def difference(reader: LayerReader, before: Snapshot | None, after: Snapshot) -> list[Member]:
    """The members of the layer that makes `after` of `before`, in the order of a walk; `before` None is the empty tree.

    A group of hard links of which one name changed is there with all its names: a layer is unpacked apart from those
    below it, so that a link can't name a file of theirs.
    """
    old = None if before is None else reader.root(before.manifest)
    new = reader.root(after.manifest)
    found: dict[str, Entry | None] = {}
    if old != new:
        _compare(reader, "", old, new, found)
    groups = _touched_groups(reader, after, found)
    for names in groups:
        for name in names:
            _add_path(reader, new, name, found)
    carrier = {name: names for names in groups for name in names}
    return [
        member
        for path in sorted(found, key=_walk_order)
        for member in _members(reader, after, path, found[path], carrier)
    ]


def _walk_order(path: str) -> list[bytes]:
    return path.encode("utf-8", "surrogateescape").split(b"/") if path else []


def _compare(reader: LayerReader, path: str, old: Entry | None, new: Entry, found: dict[str, Entry | None]) -> None:
    """Note `new` at `path`, and what changed below it; None stands for what is gone."""
    found[path] = new
    if new.kind != DIRECTORY:
        return
    before: Mapping[str, Entry] = reader.entries(old.full) if old is not None and old.kind == DIRECTORY else {}
    after = reader.entries(new.full)
    prefix = f"{path}/" if path else ""
    for name in before:
        if name not in after:
            found[f"{prefix}{name}"] = None
    for name, entry in after.items():
        if before.get(name) != entry:
            _compare(reader, f"{prefix}{name}", before.get(name), entry, found)


def _touched_groups(reader: LayerReader, after: Snapshot, found: Mapping[str, Entry | None]) -> list[list[str]]:
    """The groups of hard links of which a name is in the layer, each in the order of a walk."""
    groups = [sorted(group, key=_walk_order) for group in reader.links(after.manifest)]
    return [names for names in groups if any(found.get(name) is not None for name in names)]


def _add_path(reader: LayerReader, root: Entry, path: str, found: dict[str, Entry | None]) -> None:
    """Note `path` and the directories above it, as the tree has them."""
    found.setdefault("", root)
    entry, here = root, ""
    for name in path.split("/"):
        entry = reader.entries(entry.full)[name]
        here = f"{here}/{name}" if here else name
        found.setdefault(here, entry)


def _members(
    reader: LayerReader, after: Snapshot, path: str, entry: Entry | None, groups: Mapping[str, list[str]]
) -> Iterator[Member]:
    if entry is None:
        parent, _, name = path.rpartition("/")
        gone = f"{WHITEOUT}{name}"
        yield Member(f"{parent}/{gone}" if parent else gone, Entry(FILE, gone, 0, 0, 0, 0, 0, ""), None, None)
        return
    names = groups.get(path)
    if names is None:
        yield Member(path, entry, _physical(reader, after, path, entry), None)
    elif path == names[0]:
        content = _content_of(reader, after, names)
        yield Member(path, content[1]._replace(name=entry.name), _physical(reader, after, *content), None)
    else:
        yield Member(path, entry, None, names[0])


def _content_of(reader: LayerReader, after: Snapshot, names: list[str]) -> tuple[str, Entry]:
    """The name of a group that holds its content."""
    for name in names:
        entry = reader.root(after.manifest)
        for part in name.split("/"):
            entry = reader.entries(entry.full)[part]
        if entry.kind != HARDLINK:
            return name, entry
    raise KeyError(names[0])


def _physical(reader: LayerReader, after: Snapshot, path: str, entry: Entry) -> str | None:
    return reader.physical(after, path) if entry.kind == FILE and entry.size else None
