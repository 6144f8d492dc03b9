"""Keeps what runs equal to a stack's last release: what died is started, what is not well is restarted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import apply_prepared, last_release, prepare_deployment
from boxwright.deploy.applying import DEPLOYING, Limits, Progress
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.health import ask
from boxwright.deploy.history import StackEvent, add_events
from boxwright.deploy.planning import Change, DeployPlan, restart_plan
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import RUNNING, Instance

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
_JOBS = 4


class Watcher:
    """One stack. What fails again and again is left alone for longer each time, up to a minute."""

    def __init__(self, engine: DeployEngine, stack: str, tell: Callable[[Progress], None]) -> None:
        self._engine = engine
        self._stack = stack
        self._tell = tell
        self._failures: dict[str, int] = {}
        self._waits: dict[str, tuple[float, float]] = {}

    def look(self) -> None:
        """Once. Nothing is done while a deployment is under way, or was interrupted: the next one goes on with it."""
        try:
            with self._engine.lock(self._stack, 0):
                if self._engine.read_document(self._stack, DEPLOYING) is None:
                    self._mend()
        except BoxwrightError as error:
            if error.code != "deploy.busy":
                self._tell(Progress("failed", "stack", self._stack, error.message))

    def _mend(self) -> None:
        desired = last_release(self._engine, self._stack).desired
        contents = StackContents(self._engine, self._stack, {})
        prepared = prepare_deployment(self._engine, desired, contents, ())
        work = [it for it in prepared.plan.work if self._is_due(it.name)]
        if not work:
            unwell = self._unwell(prepared.observed.instances)
            work = list(restart_plan(desired, prepared.observed, unwell).changes)
        if not work:
            return
        events: list[StackEvent] = []

        def note(progress: Progress) -> None:
            events.append(StackEvent(round(time.time(), 3), progress.what, progress.name, f"watch: {progress.text}"))
            self._tell(progress)

        self._put_off(work)
        plan = DeployPlan((*(it for it in prepared.plan.changes if it not in prepared.plan.work), *work))
        try:
            apply_prepared(self._engine, prepared._replace(plan=plan), note, Limits(_JOBS))
        finally:
            add_events(self._engine, self._stack, events)

    def _is_due(self, name: str) -> bool:
        return time.monotonic() >= self._waits.get(name, (0.0, 0.0))[0]

    def _put_off(self, work: Iterable[Change]) -> None:
        """What is mended now is not looked at again for a while, twice as long each time in a row."""
        now = time.monotonic()
        for change in work:
            until, pause = self._waits.get(change.name, (0.0, FIRST_PAUSE / 2))
            again = now - until < LONGEST_PAUSE
            pause = min(LONGEST_PAUSE, pause * 2) if again or not until else FIRST_PAUSE
            self._waits[change.name] = (now + pause, pause)

    def _unwell(self, instances: Iterable[Instance]) -> list[str]:
        """Those whose check failed as often in a row as it may."""
        checked = [
            it for it in instances if it.state == RUNNING and it.spec is not None and it.spec.health.kind != "none"
        ]
        with ThreadPoolExecutor(_JOBS) as pool:
            answers = list(pool.map(self._ask, checked))
        found: list[str] = []
        for instance, answer in zip(checked, answers, strict=True):
            count = self._failures.get(instance.name, 0) + 1 if answer else 0
            retries = instance.spec.health.retries if instance.spec else 1
            if count >= retries and self._is_due(instance.logical):
                self._tell(Progress("unwell", "instance", instance.logical, answer))
                found.append(instance.logical)
                count = 0
            self._failures[instance.name] = count
        return found

    def _ask(self, instance: Instance) -> str:
        return ask(self._engine, instance.name, instance.spec.health) if instance.spec else ""
