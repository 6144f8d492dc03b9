"""FROM: a tree from outside becomes a snapshot, known from then on by its content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Base, Step
from boxwright.ports import Fields, StepControl, StepInputs, Workspace
from boxwright.steps.expect import expect


class Fetcher(Protocol):
    """Brings the tree of a base."""

    def fetch(
        self, base: Base, directory: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]
    ) -> int | None:
        """Fill `directory`; returns the newest time in it that is to be kept, None to keep all times."""
        ...

    def made(self, base: Base, content: Digest) -> None:
        """Is told the content of what it fetched."""
        ...


LOCKED = ("toolchain", "bootstrap")
"""Bases whose tree a lock pins."""


def pinned_by(base: Base, snapshot: Snapshot) -> Digest:
    """What a lock pins of a tree: of a toolchain, which has one time, the content; of others the times count too."""
    return snapshot.manifest.content if base.source == "toolchain" else snapshot.manifest.full


class BaseKind:
    """Base steps."""

    def __init__(self, workspace: Workspace, fetcher: Fetcher) -> None:
        self._workspace = workspace
        self._fetcher = fetcher

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """What is asked for, and its content where that is pinned."""
        base = expect(step, Base)
        return (
            ("source", base.source),
            ("name", base.name),
            ("platform", base.platform),
            ("content", base.pinned),
        )

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Fetch it."""
        base = expect(step, Base)
        if base.source == "image":
            local = self._workspace.snapshot(Digest(base.name))
            if local is None:
                raise BoxwrightError("store.gone", "the local image was removed while it was being used")
            return self._workspace.alias(key, local)
        known = self._known(base)
        if known is not None:
            return self._workspace.alias(key, known)
        with self._workspace.draft(None) as draft:
            newest = self._fetcher.fetch(base, draft.upper, control.output, control.cancelled)
            snapshot = self._workspace.commit(key, None, draft, newest=newest)
        self._fetcher.made(base, snapshot.manifest.content)
        found = pinned_by(base, snapshot)
        if base.source in LOCKED and base.pinned not in (None, found):
            raise FetchError(
                "lock.base-differs",
                f"{base.name} is not what the lock pins: {found}, not {base.pinned}",
                hint="the archive moved on, or other tools made it: `boxwright update` pins what there is now",
            )
        return snapshot

    def _known(self, base: Base) -> Snapshot | None:
        """A tree here that is the pinned one."""
        if base.source not in LOCKED or base.pinned is None:
            return None
        if base.source == "toolchain":
            return self._workspace.by_content(base.pinned)
        return self._workspace.by_full(base.pinned)

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The content: a base that is fetched again with the same content changes nothing above it."""
        return snapshot.manifest.content if snapshot else None
