"""Directories of a new layer: those that are there below keep what they are, missing ones are made."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxwright.errors import BoxwrightError
from boxwright.files import give_attributes
from boxwright.model.change import Change
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, Entry
from boxwright.ports import Workspace


def place_directories(
    workspace: Workspace,
    parent: Snapshot,
    upper: str,
    changes: Mapping[str, Change],
    new: Entry,
) -> dict[str, Change]:
    """Make in `upper` each directory that `changes` names; returns the changes with the entries of new parents.

    Those are as `new`. No path of `changes` may lead through a symbolic link of the parent's tree (see
    `Workspace.locate`).
    """
    return _place(workspace, workspace.root(parent.manifest), upper, "", changes, new)


def _place(
    workspace: Workspace, old: Entry | None, upper: str, prefix: str, changes: Mapping[str, Change], new: Entry
) -> dict[str, Change]:
    there = workspace.entries(old.full) if old and old.kind == DIRECTORY else {}
    placed: dict[str, Change] = {}
    for name, change in changes.items():
        placed[name] = change
        if change.children is None:
            continue
        before = there.get(name)
        path = f"{prefix}/{name}"
        own = change.entry
        if own is None:
            if before is not None and before.kind != DIRECTORY:
                raise BoxwrightError("step.not-a-directory", f"{path} is there and not a directory")
            own = before or new._replace(name=name)
        os.mkdir(f"{upper}{path}")
        below = _place(workspace, before, upper, path, change.children, new)
        placed[name] = Change(own, below, change.opaque)
        give_attributes(f"{upper}{path}", own)
    return placed


def set_directory_times(upper: str, prefix: str, changes: Mapping[str, Change]) -> None:
    """Directories get their times back after their children were written."""
    for name, change in changes.items():
        if change.children is not None and change.entry is not None:
            set_directory_times(upper, f"{prefix}/{name}", change.children)
            os.utime(f"{upper}{prefix}/{name}", (change.entry.mtime, change.entry.mtime))
