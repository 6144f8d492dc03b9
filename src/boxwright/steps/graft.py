"""Puts trees into a tree: what changes in the manifest, and which files must be written for it.

Where the same place was filled before from nearly the same source, only what differs is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.change import Change
from boxwright.model.tree import DIRECTORY, EMPTY, FILE, HARDLINK, IMPLIED, SYMLINK, Entry
from boxwright.ports import Workspace
from boxwright.steps.selection import Origin

if TYPE_CHECKING:
    from boxwright.model.mode import ModeChange


class Ownership(NamedTuple):
    """How a COPY changes what it copies: None leaves it. `mtime` None keeps the times, but for those after `latest`."""

    owner: tuple[int, int] | None = None
    mode: ModeChange | None = None
    mtime: int | None = None
    latest: int | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether entries stay as they are."""
        return self.owner is None and self.mode is None and self.mtime is None and self.latest is None

    def applied(self, entry: Entry) -> Entry:
        """The entry as it lands."""
        owner = self.owner or (entry.uid, entry.gid)
        mode = entry.mode
        if self.mode is not None and entry.kind != SYMLINK:
            mode = self.mode(entry.mode, entry.kind == DIRECTORY)
        mtime = entry.mtime if self.mtime is None else self.mtime
        if self.latest is not None:
            mtime = min(mtime, self.latest)
        return entry._replace(uid=owner[0], gid=owner[1], mode=mode, mtime=mtime)


class Write(NamedTuple):
    """One path to write: `source` is its path in `origin`; `entry` is as it lands at `target`, `before` as it was."""

    target: str
    entry: Entry
    source: str
    origin: Origin
    before: Entry


class NeedsAll(Exception):  # noqa: N818 - no error: the COPY is done anew
    """The earlier filling of this place can't be brought up to date: something is gone from the source."""


class Grafter:
    """Gathers the writes of one COPY.

    `linked`, where hard links are to stay: where the first name of each file landed, by its path in the source.
    """

    def __init__(self, workspace: Workspace, ownership: Ownership, linked: dict[str, str] | None = None) -> None:
        self.workspace = workspace
        self.ownership = ownership
        self.linked = linked
        self.writes: list[Write] = []
        self.size = 0

    def place(
        self, source: Entry, path: str, origin: Origin, name: str, target: str, old: Entry | None, last: Entry | None
    ) -> Change:
        """Put `source` (at `path` of `origin`) where `old` stands, as `name` at `target`.

        `last` is what was copied here before, and what `old` holds already.
        """
        if source.kind != DIRECTORY:
            if old is not None and old.kind == DIRECTORY:
                raise BoxwrightError("copy.onto-directory", f"/{target} is a directory: a file can't take its place")
            landed = self.ownership.applied(source)._replace(name=name)
            self.writes.append(Write(target, landed, path, origin, source))
            self.size += source.size if source.kind == FILE else 0
            return Change(landed)
        if old is not None and old.kind != DIRECTORY:
            raise BoxwrightError("copy.not-a-directory", f"/{target} is there and not a directory")
        # A directory that is there keeps its own owner and mode only at the top of a COPY (see `merge`).
        landed = self.ownership.applied(source)._replace(name=name, data=EMPTY.link)
        children = self.merge(source, path, origin, target, old, last)
        return Change(None if IMPLIED in source.xattrs else landed, children)

    def merge(
        self, source: Entry, path: str, origin: Origin, target: str, old: Entry | None, last: Entry | None
    ) -> dict[str, Change]:
        """The changes that put the children of `source` into the directory `old`."""
        there: Mapping[str, Entry] = self.workspace.entries(old.full) if old is not None else {}
        before: Mapping[str, Entry] = self.workspace.entries(last.full) if last is not None else {}
        now = self.workspace.entries(source.full)
        if before.keys() - now.keys():
            raise NeedsAll
        changes: dict[str, Change] = {}
        for name, entry in now.items():
            earlier = before.get(name)
            if earlier == entry:
                continue
            if earlier is not None and DIRECTORY in {earlier.kind, entry.kind} and earlier.kind != entry.kind:
                raise NeedsAll
            same_kind = earlier if entry.kind == DIRECTORY else None
            child_path = f"{path}/{name}" if path else name
            child_target = f"{target}/{name}" if target else name
            changes[name] = self.place(
                self._resolved(entry, child_path, child_target, origin),
                child_path,
                origin,
                name,
                child_target,
                there.get(name),
                same_kind,
            )
        return changes

    def _resolved(self, entry: Entry, path: str, target: str, origin: Origin) -> Entry:
        """The entry that lands at `target`: the first of a group that is copied is a file, others link to it."""
        if entry.kind == FILE and self.linked is not None:
            self.linked.setdefault(path, target)
        if entry.kind != HARDLINK or origin.snapshot is None:
            return entry
        leader = self.linked.setdefault(entry.data, target) if self.linked is not None else target
        if leader != target:
            return entry._replace(data=leader)
        first = self.workspace.locate(origin.snapshot.manifest, entry.data, follow=False).entry
        if first is None:
            raise BoxwrightError("store.tree-damaged", f"the hard link {entry.data} leads nowhere")
        return first._replace(name=entry.name)
