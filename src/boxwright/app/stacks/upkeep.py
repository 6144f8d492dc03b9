"""What `watch` does for volumes beside their instances: copies on other members, and snapshots, by schedule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from boxwright.app.stacks.deployment import last_release
from boxwright.deploy.applying import DEPLOYING, Progress
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.replicas import SCHEDULED, copies_due, copies_unwanted, snapshot_due, snapshots_over
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Desired, Observed, VolumeSpec
from boxwright.model.volumes import VolumeState, snapshot_name

_VOLUME = "volume"
_AGAIN_SECONDS = 30.0


class Upkeep:
    """One stack. Copying takes as long as it takes: it goes on beside what else is watched, one at a time.

    Nobody else does the same meanwhile: the engine sees to that, over all members. What failed keeps nothing else from
    being done, and is tried again half a minute later.
    """

    def __init__(self, engine: DeployEngine, stack: str, tell: Callable[[Progress], None]) -> None:
        self._engine = engine
        self._stack = stack
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._rest = 0.0
        self._failed: dict[str, BoxwrightError] = {}
        self._said: dict[str, str] = {}
        self._settled: Desired | None = None

    def begin(self) -> None:
        """See to what is due, beside this thread; nothing where that is under way still."""
        if time.monotonic() >= self._rest and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self.look, daemon=True, name="upkeep")
            self._thread.start()

    def look(self) -> None:
        """Once. Where somebody else is at it, or a deployment is under way, nothing is done."""
        self._failed = {}
        try:
            if self._engine.read_document(self._stack, DEPLOYING) is None:
                self._keep_up(last_release(self._engine, self._stack).desired)
        except BoxwrightError as error:
            self._failed[self._stack] = error
        if self._failed:
            self._rest = time.monotonic() + _AGAIN_SECONDS
        for name, why in self._failed.items():
            if why.code != "deploy.busy" and why.message != self._said.get(name):
                self._tell(Progress("failed", _VOLUME, name, why.message))
        self._said = {name: why.message for name, why in self._failed.items()}

    def _keep_up(self, desired: Desired) -> None:
        """A stack that wants nothing may have wanted something before: that is looked at once."""
        if desired == self._settled:
            return
        observed = self._engine.observe(self._stack)
        if self._is_due(desired, observed):
            with self._engine.copying(self._stack):
                self._do(desired, self._engine.observe(self._stack))
        wants = any(it.replicate > 1 or it.snapshot_every for it in desired.volumes)
        self._settled = None if wants or self._failed else desired

    def _is_due(self, desired: Desired, observed: Observed) -> bool:
        now = time.time()
        if copies_due(desired, observed.states, observed.members, now):
            return True
        states = {it.name: it for it in observed.states}
        if any(copies_unwanted(it, states[it.name]) for it in desired.volumes if it.name in states):
            return True
        return any(self._wants_snapshot(it, observed, now) for it in desired.volumes)

    def _wants_snapshot(self, spec: VolumeSpec, observed: Observed, now: float) -> bool:
        if not spec.snapshot_every or spec.name not in observed.volumes:
            return False
        try:
            return snapshot_due(spec, self._engine.snapshots(self._stack, spec.name), now)
        except BoxwrightError as error:
            self._failed[spec.name] = error
            return False

    def _do(self, desired: Desired, observed: Observed) -> None:
        engine, stack, now = self._engine, self._stack, time.time()
        for spec in desired.volumes:
            if self._wants_snapshot(spec, observed, now):
                name = f"{SCHEDULED}{snapshot_name(now)}"
                self._report("snapshot", spec.name, name, partial(self._take, spec, name))
        for volume, members in copies_due(desired, observed.states, observed.members, now).items():
            for member in members:
                self._report("copy", volume, f"to {member}", partial(engine.copy_volume, stack, volume, member))
        states = {it.name: it for it in engine.observe(stack).states}
        for spec in desired.volumes:
            for member in copies_unwanted(spec, states.get(spec.name, VolumeState(spec.name))):
                text = f"the copy on {member}"
                self._report("remove", spec.name, text, partial(engine.drop_copy, stack, spec.name, member))

    def _take(self, spec: VolumeSpec, name: str) -> None:
        self._engine.take_snapshot(self._stack, spec.name, name)
        for old in snapshots_over(spec, self._engine.snapshots(self._stack, spec.name)):
            self._engine.delete_snapshot(self._stack, spec.name, old)

    def _report(self, what: str, volume: str, text: str, work: Callable[[], None]) -> None:
        """What fails is told with all else at the end."""
        began = time.monotonic()
        try:
            work()
        except BoxwrightError as error:
            self._failed[volume] = error
        else:
            self._tell(Progress(what, _VOLUME, volume, text, time.monotonic() - began))


def copy_now(engine: DeployEngine, stack: str, volume: str) -> tuple[str, ...]:
    """Bring a volume's copies up to date; returns their members. Raises BoxwrightError `volume.no-copies`."""
    desired = last_release(engine, stack).desired
    wanted = [it._replace(copy_every=0.0) for it in desired.volumes if it.name == volume]
    observed = engine.observe(stack)
    due = copies_due(desired._replace(volumes=tuple(wanted)), observed.states, observed.members, time.time())
    if volume not in due:
        hint = f"volumes: {{{volume}: {{replicate: 2}}}}, on a cluster whose members answer"
        raise BoxwrightError("volume.no-copies", f"the volume {volume} of {stack} is copied nowhere", hint=hint)
    with engine.copying(stack):
        for member in due[volume]:
            engine.copy_volume(stack, volume, member)
    return due[volume]
