"""Which files of a COPY's sources changed since it was last done."""

from __future__ import annotations

import json
from collections.abc import Iterator

from boxwright.app.build import Build
from boxwright.errors import BoxwrightError
from boxwright.model.graph import Node
from boxwright.model.step import ContextSource, Copy
from boxwright.model.tree import DIRECTORY, Entry
from boxwright.ports import StepInputs
from boxwright.steps.selection import select
from boxwright.store.store import Store
from boxwright.store.trees import Trees


class SourceChanges:
    """Compares build contexts as they are with what was copied from them."""

    def __init__(self, build: Build, store: Store) -> None:
        self._store = store
        self._contexts = build.contexts

    def files(self, node: Node, key: str) -> list[str]:
        """The files in directories that a COPY took, under `key`, and that changed; nothing where that isn't known."""
        step = node.step
        row = self._store.index.one("SELECT sources FROM copies WHERE key=?", (key,))
        if row is None or not isinstance(step, Copy) or not all(isinstance(it, ContextSource) for it in step.sources):
            return []
        earlier = [Entry(*fields) for fields in json.loads(row[0])]
        nothing = (None,) * len(node.inputs)
        try:
            selected = select(self._store, self._contexts, step, StepInputs(nothing, nothing)) or ()
            now = [item for item in selected if item.entry.kind == DIRECTORY]
            if len(now) != len(earlier):
                return []
            return [
                path
                for before, item in zip(earlier, now, strict=True)
                for path in changed_files(self._store.trees, before, item.entry, item.path)
            ]
        except BoxwrightError:  # a tree of an earlier context was collected: then it isn't known
            return []


def changed_files(trees: Trees, before: Entry, now: Entry, prefix: str) -> Iterator[str]:
    """Paths at which two directories differ, times aside."""
    if before.content == now.content:
        return
    earlier, later = trees.entries(before.full), trees.entries(now.full)
    for name in sorted(earlier.keys() | later.keys()):
        old, new = earlier.get(name), later.get(name)
        path = f"{prefix}/{name}" if prefix else name
        if old and new and old.kind == new.kind == DIRECTORY:
            if old.content != new.content:
                yield from changed_files(trees, old, new, path)
                continue
            old, new = old._replace(data=""), new._replace(data="")
        if old is None or new is None or old._replace(mtime=0) != new._replace(mtime=0):
            yield path
