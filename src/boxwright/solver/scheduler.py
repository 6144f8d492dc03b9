"""Runs a plan: what can go in parallel does, shared steps are done once, the first failure stops the rest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple, Protocol

from boxwright.errors import BoxwrightError
from boxwright.events import StepFailed, StepFinished, StepOutput, StepPlaced, StepStarted
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.plan import Action, Plan
from boxwright.model.step import BuildPackage, ServiceData, Step
from boxwright.ports import Emit, StepControl, StepInputs
from boxwright.solver.keys import Keys, recorded

WAKE_SECONDS = 0.5


class Records(Protocol):
    """What the scheduler needs of the store."""

    def snapshot(self, key: Digest) -> Snapshot | None:
        """What is recorded under `key`."""
        ...

    def lock(self, key: Digest, cancelled: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Hold the right to make what is recorded under `key`; yields whether another process had it."""
        ...


class Conditions(NamedTuple):
    """`jobs` steps at once; `epoch` and `keep_times` as in StepControl; `refuse` are built whatever is recorded.

    With `keep_going` a failure stops only what needs the step that failed. Each step is run within `place`, which may
    wait until there is room for it.
    """

    jobs: int
    epoch: int
    keep_times: bool = False
    refuse: Collection[int] = ()
    keep_going: bool = False
    place: Callable[[Step, Callable[[], bool]], AbstractContextManager[object]] = lambda *_: nullcontext()


class Failed(Exception):  # noqa: N818 - it carries the error, it is none itself
    """A node failed: `position` and the reason. `others` failed as well, and `left` were not done because of them."""

    def __init__(self, position: int, error: BaseException) -> None:
        super().__init__(str(error))
        self.position = position
        self.error = error
        self.others: list[Failed] = []
        self.left: list[int] = []


class Scheduler:
    """One execution of one plan."""

    def __init__(
        self, graph: Graph, plan: Plan, keys: Keys, records: Records, emit: Emit, conditions: Conditions
    ) -> None:
        self._graph = graph
        self._keys = keys
        self._records = records
        self._emit = emit
        self._conditions = conditions
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: Failed | None = None
        self._to_run = [n for n, decision in enumerate(plan.decisions) if decision.action is Action.RUN]
        self._waiting: dict[int, set[int]] = {}
        self._dependents: dict[int, list[int]] = {}
        self._ready: deque[int] = deque()
        self._left = len(self._to_run)
        self._threads: list[threading.Thread] = []
        self._idle = 0

    def run(self) -> Snapshot:
        """Run every step that the plan says; returns the target's snapshot. Raises Failed or KeyboardInterrupt."""
        self._arrange()
        try:
            with self._changed:
                self._start_threads()
            with self._changed:
                while self._left and not self._stop.is_set():
                    self._changed.wait(WAKE_SECONDS)
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in self._threads:
                thread.join()
        if self._failure is not None:
            raise self._failure
        snapshot = self._keys.snapshot(self._graph.target)
        if snapshot is None:
            raise BoxwrightError("store.gone", "the result was removed while it was being built", hint="build again")
        return snapshot

    def _start_threads(self) -> None:
        """As many as there is work for: a chain of steps is done by one thread, which nobody has to wake."""
        while len(self._ready) > self._idle and len(self._threads) < self._conditions.jobs:
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            self._idle += 1
            thread.start()

    def _arrange(self) -> None:
        running = set(self._to_run)
        for position in self._to_run:
            before = {number for number in self._graph.nodes[position].inputs if number in running}
            self._waiting[position] = before
            for number in before:
                self._dependents.setdefault(number, []).append(position)
            if not before:
                self._ready.append(position)

    def _work(self) -> None:
        while (position := self._next()) is not None:
            started = time.monotonic()
            try:
                self._do(position, started)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                stopped = self._fail(position, error)
                with suppress(OSError):  # who looked on may be gone: that may be the very failure
                    self._emit(StepFailed(position, time.monotonic() - started, stopped))
                if self._stop.is_set():
                    return
            else:
                self._done(position)

    def _next(self) -> int | None:
        with self._changed:
            while not self._ready:
                if self._stop.is_set() or not self._left:
                    return None
                self._changed.wait(WAKE_SECONDS)
            if self._stop.is_set():
                return None
            self._idle -= 1
            return self._ready.popleft()

    def _fail(self, position: int, error: BaseException) -> bool:
        """Remember the failure; returns whether it is none of the step's own: another's, or an interruption."""
        with self._changed:
            stopped = self._stop.is_set()
            failed = Failed(position, error)
            if self._failure is None:
                self._failure = failed
            elif not stopped:
                self._failure.others.append(failed)
            if self._conditions.keep_going and isinstance(error, BoxwrightError) and not self._stop.is_set():
                self._left -= 1
                self._idle += 1
                self._failure.left += self._drop_dependents(position)
            else:
                self._stop.set()
            self._changed.notify_all()
            return stopped

    def _drop_dependents(self, position: int) -> list[int]:
        """What needs a step that failed can't be done: which steps these are."""
        dropped: list[int] = []
        pending = [position]
        while pending:
            for dependent in self._dependents.pop(pending.pop(), ()):
                if self._waiting.pop(dependent, None) is not None:
                    self._left -= 1
                    pending.append(dependent)
                    dropped.append(dependent)
        return dropped

    def _done(self, position: int) -> None:
        with self._changed:
            self._left -= 1
            self._idle += 1
            for dependent in self._dependents.get(position, ()):
                waiting = self._waiting.get(dependent)
                if waiting is None:
                    continue  # it needs a step that failed
                waiting.discard(position)
                if not waiting:
                    self._ready.append(dependent)
            self._start_threads()
            if self._idle > 1 or not self._left:
                self._changed.notify_all()

    def _do(self, position: int, started: float) -> None:
        node = self._graph.nodes[position]
        with self._changed:
            key = self._keys.of(position).key
            inputs = self._inputs(position)
        if key is None:
            raise BoxwrightError("store.gone", f"what {node.title} needs was removed while it was being built")
        with self._records.lock(key, self._stop.is_set) as waited:
            # Data comes with the step beside which a service ran: nobody else makes it.
            again = position in self._conditions.refuse or isinstance(node.step, ServiceData)
            snapshot = None if again else recorded(self._records.snapshot, node.step, key)
            shared = waited and snapshot is not None
            if snapshot is None:
                self._emit(StepStarted(position))
                control = StepControl(
                    self._conditions.epoch,
                    self._conditions.keep_times,
                    lambda data: self._emit(StepOutput(position, data)),
                    self._stop.is_set,
                    lambda server, found: self._emit(StepPlaced(position, server, found)),
                )
                with self._conditions.place(node.step, self._stop.is_set):
                    snapshot = self._keys.kind(node).run(node.step, key, inputs, control)
        with self._changed:
            self._keys.built(position, snapshot)
        self._emit(StepFinished(position, time.monotonic() - started, shared=shared))

    def _inputs(self, position: int) -> StepInputs:
        node = self._graph.nodes[position]
        places = node.inputs
        return StepInputs(
            tuple(self._keys.of(place).state for place in places),
            tuple(self._keys.snapshot(place) for place in places),
            self._keys.definition(position) if isinstance(node.step, BuildPackage) else None,
        )
