"""COPY and ADD of local files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from boxwright.errors import BoxwrightError
from boxwright.model.change import Change, Difference, with_change
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.keys import key_of
from boxwright.model.step import Copy, Step
from boxwright.model.tree import DIRECTORY, EMPTY, FILE, Entry, Manifest, directory_entry
from boxwright.ports import Contexts, Fields, StepControl, StepInputs, Workspace
from boxwright.steps.expect import expect, parent_of
from boxwright.steps.graft import Grafter, NeedsAll, Ownership, Write
from boxwright.steps.owners import parse_owner
from boxwright.steps.place import place_directories, set_directory_times
from boxwright.steps.selection import Origin, Selected, select
from boxwright.steps.writing import write_files

if TYPE_CHECKING:
    from boxwright.model.mode import ModeChange

Unpack = Callable[[str, str], None]
IsArchive = Callable[[str], bool]


class CopyKind:
    """COPY and ADD steps. `unpack` and `is_archive` do what ADD promises of local archives."""

    def __init__(self, workspace: Workspace, contexts: Contexts, *, unpack: Unpack, is_archive: IsArchive) -> None:
        self._workspace = workspace
        self._contexts = contexts
        self._unpack = unpack
        self._is_archive = is_archive

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state, what is copied (by content and mode, not by time), and to where."""
        copy = expect(step, Copy)
        if inputs.states[0] is None:
            return None
        selected = select(self._workspace, self._contexts, copy, inputs)
        if selected is None:
            return None
        return (
            ("state", inputs.states[0]),
            ("sources", tuple(item.identity for item in selected)),
            *_place_fields(copy),
        )

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Copy; from what the last copy to this place left where only little differs."""
        copy = expect(step, Copy)
        parent = parent_of(inputs)
        selected = select(self._workspace, self._contexts, copy, inputs) or ()
        if copy.unpack:
            selected = tuple(self._unpacked(item, control) for item in selected)
        fill = _Fill(self._workspace, copy, parent, selected, control)
        slot = str(key_of("slot", (("state", inputs.states[0]), ("time", control.newest), *_place_fields(copy))))
        snapshot = self._from_last(fill, slot, key) or fill.run(key, parent, ())
        self._workspace.keep_copy(slot, key, _written(selected))
        return snapshot

    def _from_last(self, fill: _Fill, slot: str, key: Digest) -> Snapshot | None:
        last = self._workspace.last_copy(slot)
        if last is None:
            return None
        snapshot = self._workspace.snapshot(last[0])
        earlier = _read(last[1])
        if snapshot is None or not _comparable(earlier, fill.selected):
            return None
        if not all(self._workspace.has(entry.full) for entry in earlier):
            return None
        try:
            return fill.run(key, snapshot, earlier)
        except NeedsAll:
            return None

    def _unpacked(self, item: Selected, control: StepControl) -> Selected:
        """An archive as the tree in it, made once for each content."""
        path = self._path(item.origin, item.path) if item.entry.kind == FILE else None
        if path is None or not self._is_archive(path):
            return item
        key = key_of("unpack", (("archive", item.entry.data), ("implied", True)))
        snapshot = self._workspace.snapshot(key)
        if snapshot is None:
            with self._workspace.draft(None) as draft:
                self._unpack(path, draft.upper)
                snapshot = self._workspace.commit(key, None, draft, newest=None)
        root = self._workspace.root(snapshot.manifest)
        return Selected("", "", root, Origin(snapshot=snapshot))

    def _path(self, origin: Origin, path: str) -> str | None:
        """Where a file lies that ADD may unpack."""
        if origin.context is not None:
            return f"{origin.context.directory}/{path}"
        return self._workspace.physical(origin.snapshot, path) if origin.snapshot is not None else None

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key


def _mode_change(text: str) -> ModeChange:
    from boxwright.model.mode import parse_mode

    return parse_mode(text)


def _place_fields(copy: Copy) -> Fields:
    return (
        ("destination", copy.destination),
        ("owner", copy.owner),
        ("mode", copy.mode),
        ("unpack", copy.unpack),
        ("parents", copy.parents),
        ("exclude", copy.exclude),
    )


def _written(selected: Sequence[Selected]) -> str:
    return json.dumps([list(item.entry) for item in selected if item.entry.kind == DIRECTORY])


def _read(text: str) -> tuple[Entry, ...]:
    return tuple(Entry(*fields) for fields in json.loads(text))


def _comparable(earlier: Sequence[Entry], selected: Sequence[Selected]) -> bool:
    """Only a COPY of one directory from a context is brought up to date."""
    return (
        len(earlier) == len(selected) == 1
        and selected[0].entry.kind == DIRECTORY
        and selected[0].origin.context is not None
        and earlier[0].mode == selected[0].entry.mode
    )


class _Fill:
    """One COPY being done."""

    def __init__(
        self,
        workspace: Workspace,
        copy: Copy,
        parent: Snapshot,
        selected: tuple[Selected, ...],
        control: StepControl,
    ) -> None:
        self.selected = selected
        self._workspace = workspace
        self._copy = copy
        self._control = control
        self._owner = parse_owner(copy.owner, workspace, parent) if copy.owner else None
        self._several = sum(len(getattr(source, "paths", ("",))) for source in copy.sources) > 1
        self._holds_directory = any(item.entry.kind == DIRECTORY for item in selected)

    def run(self, key: Digest, start: Snapshot, last: Sequence[Entry], *, links: bool = True) -> Snapshot:
        """Fill a layer on top of `start`, which holds `last` already. With `links`, hard links of snapshots stay."""
        changes: dict[str, Change] = {}
        size = 0
        writes: list[Write] = []
        for number, item in enumerate(self.selected):
            grafter = Grafter(self._workspace, self._ownership(item), {} if links and item.origin.snapshot else None)
            place, change = self._graft(grafter, item, start.manifest, last[number] if last else None)
            changes = _joined(changes, place, change)
            writes += grafter.writes
            size += grafter.size
        if links and len({write.target for write in writes}) < len(writes):
            # A later source overwrites what an earlier one wrote: a link could lead to another's content.
            return self.run(key, start, last, links=False)
        if last and size * 2 > sum(item.entry.size for item in self.selected):
            raise NeedsAll  # a layer on top would hide most of the one below, and keep it alive
        with self._workspace.draft(start) as draft:
            placed: Mapping[str, Change] = place_directories(
                self._workspace, start, draft.upper, changes, self._new_directory()
            )
            write_files(self._workspace, draft.upper, _last_of_each(writes), self._control.cancelled)
            set_directory_times(draft.upper, "", placed)
            difference = Difference(placed, size=size)
            return self._workspace.commit(key, start, draft, newest=self._control.newest, difference=difference)

    def _new_directory(self) -> Entry:
        """A directory that the COPY makes on its way: --chown and --chmod hold for it."""
        mode = _mode_change(self._copy.mode)(0o755, True) & 0o777 if self._copy.mode else 0o755
        return directory_entry("", mode, self._control.epoch, EMPTY.link, owner=self._owner or (0, 0))

    def _ownership(self, item: Selected) -> Ownership:
        copy = self._copy
        owner = self._owner
        unpacked = copy.unpack and item.origin.snapshot is not None
        if owner is None and item.origin.remote and not unpacked:
            owner = (0, 0)
        mtime = None if item.origin.snapshot is not None or self._control.keep_times else self._control.epoch
        latest = self._control.newest if item.origin.remote else None
        return Ownership(owner, _mode_change(copy.mode) if copy.mode else None, mtime, latest)

    def _graft(self, grafter: Grafter, item: Selected, manifest: Manifest, last: Entry | None) -> tuple[str, Change]:
        destination = self._copy.destination
        located = self._workspace.locate(manifest, destination)
        path, there = located.path, located.entry
        if item.entry.kind == DIRECTORY:
            if there is not None and there.kind != DIRECTORY:
                raise BoxwrightError("copy.not-a-directory", f"{destination} is there and not a directory")
            return path, Change(None, grafter.merge(item.entry, item.path, item.origin, path, there, last))
        is_directory = destination.endswith("/") or (there is not None and there.kind == DIRECTORY)
        if not is_directory and self._several and not (is_directory := self._holds_directory):
            hint = f"write {destination}/"
            message = f"several files can't become one: {destination} is no directory"
            raise BoxwrightError("copy.needs-directory", message, hint=hint)
        if is_directory:
            path = f"{path}/{item.name}" if path else item.name
            there = self._workspace.locate(manifest, path, follow=False).entry
        name = path.rpartition("/")[2]
        return path, grafter.place(item.entry, item.path, item.origin, name, path, there, None)


def _joined(changes: dict[str, Change], path: str, change: Change) -> dict[str, Change]:
    """`changes` with another at `path`, where both may go into one directory."""
    if not path:
        joined = dict(changes)
        for name, below in (change.children or {}).items():
            joined = _joined(joined, name, below)
        return joined
    if change.children is None:
        return with_change(changes, path, change)
    existing = _at(changes, path)
    merged: dict[str, Change] = dict(existing.children or {}) if existing and existing.children is not None else {}
    for name, below in change.children.items():
        merged = _joined(merged, name, below)
    return with_change(changes, path, Change(change.entry or (existing.entry if existing else None), merged))


def _at(changes: Mapping[str, Change], path: str) -> Change | None:
    name, _, rest = path.partition("/")
    here = changes.get(name)
    if here is None or not rest:
        return here
    return _at(here.children or {}, rest)


def _last_of_each(writes: Sequence[Write]) -> list[Write]:
    """Of several sources that land in one place, the last one."""
    return list({write.target: write for write in writes}.values())
