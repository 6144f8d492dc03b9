"""Keeps what runs equal to a stack's last release: what died is started, what is not well is restarted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import Prepared, apply_noted, last_release, prepare_deployment
from boxwright.deploy.applying import DEPLOYING, Limits, Progress
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.health import ask
from boxwright.deploy.placing import silent
from boxwright.deploy.planning import START, Change, DeployPlan, restart_plan
from boxwright.deploy.replicas import REPLICA, Patience, check_patience, given_up
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import CREATED, ONCE, RUNNING, Instance, Observed

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
_JOBS = 4
_CHECKS = 16
_LATE_SECONDS = 2.0
_PROBE_SECONDS = 1.0
WELL_SECONDS = 20.0
"""For how long it is waited until what was started is well; after that it is asked as what ran before is."""
NEAR_SECONDS = 5.0
"""For how long what is to be done on another member is left to the `watch` that runs there."""


class Watcher:
    """One stack. What fails again and again is left alone for longer each time, up to a minute.

    Instances of a member of the cluster that has not answered for some seconds are started elsewhere, those with
    volumes later, from copies of these. Without a quorum the cluster's database takes no changes, so the lesser part of
    a split can't do that. `fence` turns a silent member off, and says whether it has. `note` is told which containers
    may be started from copies.
    """

    def __init__(
        self,
        engine: DeployEngine,
        stack: str,
        tell: Callable[[Progress], None],
        *,
        patience: Patience = Patience(),  # noqa: B008  a constant
        fence: Callable[[str], bool] | None = None,
        note: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._tell = tell
        self._patience = check_patience(patience)
        self._fence = fence
        self._note = note
        self._fencing: dict[str, Future[bool]] = {}
        self._fencers = ThreadPoolExecutor(_JOBS, thread_name_prefix="fence")
        self._stake: set[str] = set()
        self._failures: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        self._left: dict[str, float] = {}
        self._silent: dict[str, float] = {}
        self._unreached: dict[str, float] = {}
        self._probing: threading.Thread | None = None
        self._asking: dict[str, threading.Thread] = {}
        self._said = ""

    def look(self) -> None:
        """Once. Nothing is done while a deployment is under way, or was interrupted: the next one goes on with it.

        What runs is looked at without the lock, so that nobody waits for that; where there is something to do, it is
        planned again with it.
        """
        try:
            if self._probing is None:
                self._note_unreached()
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
        self._stake = {it.name for it in desired.containers if it.failover == REPLICA}
        if self._note is not None:
            self._note(self._stake)
        contents = StackContents(self._engine, self._stack, {})
        return prepare_deployment(self._engine, desired, contents, (), given_up=self._given_up, released=desired)

    def _due(self, prepared: Prepared) -> list[Change]:
        """What is to be done now so that what runs becomes what the release says."""
        due = [it for it in prepared.plan.work if self._is_due(it.name) and self._is_lost(it) and not _has_ended(it)]
        far = {it.name for it in due if it.lost and it.member != self._engine.home()} if self._engine.home() else set()
        now = time.monotonic()
        self._left = {name: self._left.get(name, now) for name in far}
        left = {name for name, since in self._left.items() if now - since < NEAR_SECONDS}
        near = self._guarded() if left else set()
        return [it for it in due if it.name not in left or it.member not in near]

    def _guarded(self) -> set[str]:
        """Members on which a `watch` runs.

        After a member died, LXD's members may not hear each other for a while: who is near does what the others can't.
        """
        now = time.time()
        return {name for name, note in self._engine.guards(self._stack).items() if note.until >= now}

    def _mend(self, unwell: Iterable[str]) -> None:
        if self._engine.read_document(self._stack, DEPLOYING) is not None:
            return
        prepared = self._prepared()
        work = self._due(prepared) or list(restart_plan(prepared.desired, prepared.observed, unwell).changes)
        if not work:
            return
        self._put_off(work)
        plan = DeployPlan((*(it for it in prepared.plan.changes if it not in prepared.plan.work), *work))
        try:
            limits = Limits(_JOBS, each=True, wait=WELL_SECONDS)
            apply_noted(self._engine, prepared._replace(plan=plan), "watch", self._tell, limits)
        except BoxwrightError:
            self._rest(work)
            raise

    def _given_up(self, observed: Observed) -> set[str]:
        """Members that have been silent for so long that others take their volumes over, or that are fenced."""
        self._note_silent(observed)
        places = dict(observed.places)
        removed = set(places.values()) - {it.name for it in observed.members} if observed.members else set()
        if not self._stake or not (self._silent or removed):
            return removed
        now = time.monotonic()
        # Who can't be reached from here may still be heard by the leader, and has a quorum then.
        unheard = {it.name for it in observed.members if it.unheard}
        silent = {name: now - since for name, since in self._silent.items() if name in unheard}
        fenced = {name for name in silent if self._is_fenced(name, silent[name])}
        return removed | given_up(silent, self._engine.guards(self._stack), fenced, self._patience, time.time())

    def _is_fenced(self, member: str, seconds: float) -> bool:
        """Asked once for each silence, beside this thread: it may take its time."""
        if self._fence is None or seconds < self._patience.member:
            return False
        if member not in self._fencing:
            self._tell(Progress("fence", "member", member))
            self._fencing[member] = self._fencers.submit(self._fence, member)
        found = self._fencing[member]
        return found.done() and found.exception() is None and found.result()

    def keep_probing(self) -> None:
        """From now on, see beside this thread which members can be reached: what else is asked of one may hang."""
        self._probing = threading.Thread(target=self._probe, daemon=True, name="probe")
        self._probing.start()

    def _probe(self) -> None:
        while True:
            self._note_unreached()
            time.sleep(_PROBE_SECONDS)

    def _note_unreached(self) -> None:
        """Since when members can't be reached from here: their cluster takes longer to say that they are silent."""
        began = time.monotonic()
        self._unreached = {name: self._unreached.get(name, began) for name in self._engine.unreachable()}

    def _note_silent(self, observed: Observed) -> None:
        """Since when members don't answer, by this process's own clock."""
        now = time.monotonic()
        offline = silent(observed.members)
        for name in sorted(offline - set(self._silent)):
            text = f"what it runs is started elsewhere after {self._patience.member:g} s"
            self._tell(Progress("silent", "member", name, text))
        self._silent = {name: self._silent.get(name, self._unreached.get(name, now)) for name in offline}
        self._fencing = {name: it for name, it in self._fencing.items() if name in offline}

    def _is_lost(self, change: Change) -> bool:
        """Whether its member has been silent long enough, where it is done since that is."""
        silent_since = self._silent.get(change.lost, 0.0)
        return not change.lost or bool(change.promoted) or time.monotonic() - silent_since >= self._patience.member

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

    def _rest(self, work: Iterable[Change]) -> None:
        """The pause begins now: failing may have taken long, and another member's `watch` may have more luck."""
        now = time.monotonic()
        for change in work:
            pause = self._waits[change.name][1]
            self._waits[change.name] = (now + pause, pause)

    def _unwell(self, instances: Iterable[Instance]) -> list[str]:
        """Those whose check failed as often in a row as it may."""
        answers = self._ask_all([it for it in instances if self._is_asked(it)])
        found: list[str] = []
        for instance, answer in answers:
            early = instance.spec is not None and time.time() - instance.started < instance.spec.health.start_period
            count = self._failures.get(instance.name, 0) + (not early) if answer else 0
            retries = instance.spec.health.retries if instance.spec else 1
            if count >= retries and self._is_due(instance.logical):
                self._tell(Progress("unwell", "instance", instance.logical, answer))
                found.append(instance.logical)
                count = 0
            self._failures[instance.name] = count
        return found

    def _is_asked(self, instance: Instance) -> bool:
        """Whether it has a check whose turn it is, can be reached, and has answered what it was asked before."""
        if instance.state != RUNNING or instance.spec is None or instance.spec.health.kind == "none":
            return False
        if time.monotonic() - self._asked.get(instance.name, -math.inf) < instance.spec.health.interval:
            return False
        if instance.spec.restart == ONCE:  # nobody would do anything about it
            return False
        before = self._asking.get(instance.name)
        return instance.member not in self._unreached and (before is None or not before.is_alive())

    def _ask_all(self, instances: Sequence[Instance]) -> list[tuple[Instance, str]]:
        """What each says, some at a time. One that says nothing for long is not waited for: its member may be gone."""
        answers: dict[str, str] = {}

        def work(instance: Instance) -> None:
            answers[instance.name] = ask(self._engine, instance.name, instance.spec) if instance.spec else ""

        self._asking = {name: it for name, it in self._asking.items() if it.is_alive()}
        self._asked |= dict.fromkeys((it.name for it in instances), time.monotonic())
        for start in range(0, len(instances), _CHECKS):
            some = instances[start : start + _CHECKS]
            asked = {it.name: threading.Thread(target=work, args=(it,), daemon=True) for it in some}
            self._asking |= asked
            for thread in asked.values():
                thread.start()
            until = (
                time.monotonic() + max((it.spec.health.timeout for it in some if it.spec), default=0.0) + _LATE_SECONDS
            )
            for thread in asked.values():
                thread.join(max(0.0, until - time.monotonic()))
        return [(it, answers.get(it.name, "it does not answer in time")) for it in instances]


def _has_ended(change: Change) -> bool:
    """Whether it would be started again, and is run only once: that is for the next `deploy`."""
    if change.action != START or change.spec is None or change.kept is None:
        return False
    return change.spec.restart == ONCE and change.kept.state != CREATED
