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
        known = self._workspace.by_content(base.pinned) if base.source == "toolchain" and base.pinned else None
        if known is not None:
            return self._workspace.alias(key, known)
        with self._workspace.draft(None) as draft:
            newest = self._fetcher.fetch(base, draft.upper, control.output, control.cancelled)
            snapshot = self._workspace.commit(key, None, draft, newest=newest)
        if base.source == "toolchain" and base.pinned not in (None, snapshot.manifest.content):
            raise FetchError(
                "lock.base-differs",
                f"{base.name} is not what the lock pins: {snapshot.manifest.content}, not {base.pinned}",
                hint="the archive moved on: `boxwright lock` pins what there is now",
            )
        return snapshot

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The content: a base that is fetched again with the same content changes nothing above it."""
        return snapshot.manifest.content if snapshot else None
