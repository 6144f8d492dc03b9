"""The life of a build container, as a state machine: no call comes at a wrong time, and the end is always reached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from boxwright.errors import BoxwrightError
from boxwright.ports import BuildContainer, EngineCommand, SeenPath


class Life(Enum):
    """Where a container stands."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    COMMITTING = "committing"
    FAILED = "failed"
    GONE = "gone"


NEXT = {
    Life.ABSENT: frozenset({Life.STARTING, Life.GONE}),
    Life.STARTING: frozenset({Life.READY, Life.FAILED}),
    Life.READY: frozenset({Life.BUSY, Life.COMMITTING, Life.FAILED, Life.GONE}),
    Life.BUSY: frozenset({Life.READY, Life.FAILED}),
    Life.COMMITTING: frozenset({Life.READY, Life.FAILED}),
    Life.FAILED: frozenset({Life.GONE}),
    Life.GONE: frozenset(),
}


class LivingContainer:
    """A build container from before its start to after its end. One thread at a time uses it.

    Whatever fails in it makes it FAILED, from where it can only be removed. A command that ends badly is no failure of
    the container, but its state is no state that anybody asked for: see `spoil`.
    """

    def __init__(self, start: Callable[[], BuildContainer]) -> None:
        self._start = start
        self._inner: BuildContainer | None = None
        self._lock = threading.Lock()
        self.life = Life.ABSENT

    def _go(self, to: Life) -> None:
        with self._lock:
            if to not in NEXT[self.life]:
                raise BoxwrightError("engine.life", f"a build container that is {self.life.value} can't be {to.value}")
            self.life = to

    @contextmanager
    def _during(self, state: Life) -> Iterator[BuildContainer]:
        self._go(state)
        try:
            yield expected(self._inner)
        except BaseException:
            if self.life is not Life.GONE:  # somebody else gave it up: it is that which failed
                self._go(Life.FAILED)
            raise
        self._go(Life.READY)

    def start(self) -> None:
        """From absent to ready."""
        self._go(Life.STARTING)
        try:
            self._inner = self._start()
        except BaseException:
            self._go(Life.FAILED)
            raise
        self._go(Life.READY)

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        """Run a command; see BuildContainer."""
        with self._during(Life.BUSY) as inner:
            return inner.execute(command, output, cancelled)

    def look(self, path: str) -> SeenPath | None:
        """What is at a path; see BuildContainer."""
        with self._during(Life.BUSY) as inner:
            return inner.look(path)

    def read(self, path: str) -> bytes | None:
        """A file's bytes; see BuildContainer."""
        with self._during(Life.BUSY) as inner:
            return inner.read(path)

    def put(self, archive: str) -> None:
        """Lay files; see BuildContainer."""
        with self._during(Life.BUSY) as inner:
            inner.put(archive)

    def commit(self, state: str) -> None:
        """Keep the tree; see BuildContainer."""
        with self._during(Life.COMMITTING) as inner:
            inner.commit(state)

    def spoil(self) -> None:
        """Nobody may go on from what it holds."""
        if self.life is Life.READY:
            self._go(Life.FAILED)

    def remove(self) -> None:
        """To its end, from wherever it stands; a second time does nothing. It is gone even where this fails."""
        if self.life is Life.GONE:
            return
        inner, self._inner = self._inner, None
        if self.life in (Life.STARTING, Life.BUSY, Life.COMMITTING):
            self._go(Life.FAILED)
        self._go(Life.GONE)
        if inner is not None:
            inner.remove()


def expected(container: BuildContainer | None) -> BuildContainer:
    """A container that was started."""
    if container is None:
        raise BoxwrightError("engine.life", "there is no container")
    return container
