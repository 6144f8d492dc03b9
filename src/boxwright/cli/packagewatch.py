"""What stands on a terminal below the finished blocks of a build of packages: what runs, since when, which phase."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from boxwright.cli.painting import Line, Painter, running_lines
from boxwright.cli.progress import CACHED
from boxwright.cli.steptext import StepText, clean
from boxwright.events import Event, Planned, StepFailed, StepFinished, StepStarted
from boxwright.model.graph import Graph

PHASE = "== "
LEAST_HEIGHT = 8


class Watch:
    """The part of the display that is repainted. The display's lock is held by whoever calls, but for the painter."""

    def __init__(self, graph: Graph, texts: Mapping[int, StepText], lock: AbstractContextManager[object]) -> None:
        self._graph = graph
        self._texts = texts
        self._lock = lock
        self._began = time.monotonic()
        self._running: dict[int, float] = {}
        self._phases: dict[int, str] = {}
        self._left = 0
        self._done = 0
        self._painter = Painter(self.frame)
        self.put = self._painter.put
        self.stop = self._painter.stop

    def take(self, event: Event) -> None:
        """Take note of what begins and ends."""
        match event:
            case Planned(plan):
                self._left = sum(decision.action not in CACHED for decision in plan.decisions) - self._done
            case StepStarted(position):
                self._running[position] = time.monotonic()
                self._painter.start()
            case StepFinished(position, _) | StepFailed(position, _):
                self._running.pop(position, None)
                self._done += 1
                self._left -= 1

    def phases(self, position: int, lines: list[str]) -> None:
        """Look for the phase in what a package's build writes."""
        for line in lines:
            if line.startswith(PHASE):
                self._phases[position] = line.removeprefix(PHASE)

    def frame(self, height: int) -> list[Line]:
        """The lines: of `height` half, so that finished blocks stay in sight and a narrower window breaks few."""
        height = max(min(height, LEAST_HEIGHT), height // 2)
        with self._lock:
            now = time.monotonic()
            waiting = max(0, self._left - len(self._running))
            head = f"{now - self._began:7.1f}s {self._done} done, {len(self._running)} running, {waiting} to do"
            running = [(self._name(n), now - began, self._texts.get(n)) for n, began in self._running.items()]
            return [*running_lines(running, max(1, height - 1)), (head, "")][-height:]

    def _name(self, position: int) -> str:
        title = clean(" ".join(self._graph.nodes[position].title.splitlines()))
        phase = self._phases.get(position)
        return f"{title}: {clean(phase)}" if phase else title
