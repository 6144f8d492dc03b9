"""The build containers of one build: started when a step needs one, used again by the next, gone at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from boxwright.engines.building.life import LivingContainer
from boxwright.errors import BoxwrightError
from boxwright.ports import BuildContainer, BuildEngine, ContainerShape


class _Following:
    """A container that remembers which state it holds."""

    def __init__(self, living: LivingContainer, state: str) -> None:
        self.living = living
        self.state = state
        self.execute = living.execute
        self.look = living.look
        self.read = living.read
        self.put = living.put
        self.remove = living.remove

    def commit(self, state: str) -> None:
        """Keep the tree: what it holds is this state now."""
        self.living.commit(state)
        self.state = state


class Room:
    """Build containers of one engine. `watched` is told when the first one is about to start. Safe for threads."""

    def __init__(self, engine: BuildEngine, watched: Callable[[], None] = lambda: None) -> None:
        self.name = engine.name
        self.is_local = engine.is_local
        self._engine = engine
        self._watched = watched
        self._lock = threading.Lock()
        self._known: set[str] | None = None
        self._waiting: dict[tuple[str, ContainerShape], list[_Following]] = {}
        self._living: list[LivingContainer] = []
        self._loading = threading.Lock()

    def has(self, state: str) -> bool:
        """Whether the engine holds a state; it is asked once for all that it has."""
        with self._lock:
            if self._known is None:
                self._known = self._engine.states()
            return state in self._known

    def _learn(self, state: str) -> None:
        with self._lock:
            if self._known is not None:
                self._known.add(state)

    def load(self, state: str, archive: Callable[[], str]) -> None:
        """Give the engine a tree, unless it has it."""
        with self._loading:
            if self.has(state):
                return
            path = archive()
            try:
                self._engine.load(state, path)
            finally:
                os.unlink(path)
            self._learn(state)

    @contextmanager
    def held(self, state: str, shape: ContainerShape) -> Iterator[BuildContainer]:
        """A container in this state for one step: one that waits there, or a new one.

        It is removed where the step fails, or changed it without keeping that.
        """
        container = self._take(state, shape)
        try:
            yield container
        except BaseException:
            container.living.spoil()
            with suppress(BoxwrightError):
                self._remove(container.living)
            raise
        if container.state == state:
            self._remove(container.living)
            return
        self._learn(container.state)
        with self._lock:
            self._waiting.setdefault((container.state, shape), []).append(container)

    def _take(self, state: str, shape: ContainerShape) -> _Following:
        with self._lock:
            waiting = self._waiting.get((state, shape))
            if waiting:
                return waiting.pop()
            first = not self._living
        if first:
            self._watched()
            self._engine.sweep()
        living = LivingContainer(lambda: self._engine.start(state, shape))
        with self._lock:
            self._living.append(living)
        living.start()
        return _Following(living, state)

    def _remove(self, living: LivingContainer) -> None:
        living.remove()
        with self._lock:
            if living in self._living:
                self._living.remove(living)

    def fetch(self, state: str, archive: str) -> str:
        """Write a state's tree as a tar; see BuildEngine."""
        return self._engine.fetch(state, archive)

    def close(self) -> None:
        """Remove every container. Raises the first error, after all were tried."""
        failed: BoxwrightError | None = None
        for living in list(self._living):
            try:
                self._remove(living)
            except BoxwrightError as error:
                failed = failed or error
        self._waiting.clear()
        self._engine.close()
        if failed is not None:
            raise failed
