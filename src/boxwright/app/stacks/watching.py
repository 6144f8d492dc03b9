"""Keeps what runs equal to a stack's last release: what died is started, what is not well is restarted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import Prepared, apply_noted, last_release, prepare_deployment
from boxwright.deploy.applying import DEPLOYING, Limits, Progress
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.health import ask
from boxwright.deploy.placing import silent
from boxwright.deploy.planning import Change, DeployPlan, restart_plan
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import RUNNING, Instance, Observed

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
MEMBER_PATIENCE = 10.0
_JOBS = 4


class Watcher:
    """One stack. What fails again and again is left alone for longer each time, up to a minute.

    Instances of a member of the cluster that has not answered for `patience` seconds are started elsewhere. Without a
    quorum the cluster's database takes no changes, so the lesser part of a split can't do that.
    """

    def __init__(
        self, engine: DeployEngine, stack: str, tell: Callable[[Progress], None], *, patience: float = MEMBER_PATIENCE
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._tell = tell
        self._patience = patience
        self._failures: dict[str, int] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        self._silent: dict[str, float] = {}
        self._said = ""

    def look(self) -> None:
        """Once. Nothing is done while a deployment is under way, or was interrupted: the next one goes on with it.

        What runs is looked at without the lock, so that nobody waits for that; where there is something to do, it is
        planned again with it.
        """
        try:
            if self._engine.read_document(self._stack, DEPLOYING) is None:
                prepared = self._prepared()
                unwell = () if self._due(prepared) else tuple(self._unwell(prepared.observed.instances))
                if unwell or self._due(prepared):
                    with self._engine.lock(self._stack, 0):
                        self._mend(unwell)
            self._said = ""
        except BoxwrightError as error:
            if error.code != "deploy.busy" and error.message != self._said:
                self._tell(Progress("failed", "stack", self._stack, error.message))
                self._said = error.message

    def _prepared(self) -> Prepared:
        desired = last_release(self._engine, self._stack).desired
        prepared = prepare_deployment(self._engine, desired, StackContents(self._engine, self._stack, {}), ())
        self._note_silent(prepared.observed)
        return prepared

    def _due(self, prepared: Prepared) -> list[Change]:
        """What is to be done now so that what runs becomes what the release says."""
        return [it for it in prepared.plan.work if self._is_due(it.name) and self._is_lost(it)]

    def _mend(self, unwell: Iterable[str]) -> None:
        if self._engine.read_document(self._stack, DEPLOYING) is not None:
            return
        prepared = self._prepared()
        work = self._due(prepared) or list(restart_plan(prepared.desired, prepared.observed, unwell).changes)
        if not work:
            return
        self._put_off(work)
        plan = DeployPlan((*(it for it in prepared.plan.changes if it not in prepared.plan.work), *work))
        apply_noted(self._engine, prepared._replace(plan=plan), "watch", self._tell, Limits(_JOBS))

    def _note_silent(self, observed: Observed) -> None:
        """Since when members don't answer, by this process's own clock."""
        now = time.monotonic()
        offline = silent(observed.members)
        for name in sorted(offline - set(self._silent)):
            text = f"what it runs is started elsewhere after {self._patience:g} s"
            self._tell(Progress("silent", "member", name, text))
        self._silent = {name: self._silent.get(name, now) for name in offline}

    def _is_lost(self, change: Change) -> bool:
        """Whether its member has been silent long enough, where it is done since that is."""
        return not change.lost or time.monotonic() - self._silent.get(change.lost, 0.0) >= self._patience

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
        return ask(self._engine, instance.name, instance.spec) if instance.spec else ""
