"""The live display of recipes on a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from boxwright.cli.painting import Line, Painter, rendered, running_lines
from boxwright.cli.progress import CACHED, Display, cached_reason
from boxwright.cli.steptext import clean
from boxwright.events import Event, Message, Planned, StepFailed, StepFinished, StepStarted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from boxwright.model.graph import Graph

SHOWN_DONE = 8
SHOWN_CACHED = 4
LISTED = 12


class LiveDisplay(Display):
    """Steps with their times, what is cached and why, the tail of what runs; at the end a summary."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._began = time.monotonic()
        self._running: dict[int, float] = {}
        self._to_run = 0
        self._cached: list[str] = []
        self._done: list[tuple[float, int]] = []
        self._ended: deque[str] = deque(maxlen=SHOWN_DONE)
        self._broken: list[str] = []
        self._messages: list[str] = []
        self._painter = Painter(self._frame)
        self._closed = False

    def show(self, event: Event) -> None:
        """Take note; the painter shows it."""
        match event:
            case Planned(plan):
                self._to_run = sum(decision.action not in CACHED for decision in plan.decisions)
                self._cached = [
                    f"CACHED {self.name(position)}{cached_reason(decision.reason)}"
                    for position, decision in enumerate(plan.decisions)
                    if decision.action in CACHED
                ]
            case StepStarted(position):
                self._running[position] = time.monotonic()
                self._painter.start()
            case StepFinished(position, seconds):
                if self._running.pop(position, None) is None:
                    self._to_run -= 1
                    self._cached.append(f"CACHED {self.name(position)} (another build made it meanwhile)")
                else:
                    self._done.append((seconds, position))
                    self._ended.append(f"{seconds:7.2f}s {self.name(position)}")
            case StepFailed(position, _, stopped):
                self._running.pop(position, None)
                self._broken.append(f"{'STOPPED' if stopped else ' FAILED'}  {self.name(position)}")
            case Message(level, text):
                self._messages.append(f"{level}: {clean(text)}")

    def close(self) -> None:
        """Take the painting away and leave the summary."""
        if self._closed:
            return
        self._closed = True
        self._painter.stop()
        sys.stderr.write("".join(f"{line}\n" for line in self.summary()))
        sys.stderr.flush()

    def summary(self) -> list[str]:
        """What is left of the display: messages, the steps that ran (the longest of many), and counts."""
        with self.lock:
            shown = sorted(sorted(self._done, reverse=True)[:LISTED], key=lambda item: item[1])
            lines = [*self._messages, *(f"{seconds:7.2f}s {self.name(position)}" for seconds, position in shown)]
            if len(self._done) > LISTED:
                lines.append(f"         and {len(self._done) - LISTED} shorter steps")
            lines.extend(self._broken)
            seconds = time.monotonic() - self._began
            return [*lines, f"{len(self._cached)} steps cached, {len(self._done)} run in {seconds:.2f} s"]

    def frame(self, height: int) -> RenderableType:
        """What stands on the terminal now, in `height` lines at most: what runs first of all."""
        return rendered(self._frame(height))

    def _frame(self, height: int) -> list[Line]:
        with self.lock:
            return self._lines(height)

    def _lines(self, height: int) -> list[Line]:
        now = time.monotonic()
        done = len(self._done)
        head = (
            f"{now - self._began:7.1f}s {len(self._cached)} cached, {done} done, {len(self._running)} running, "
            f"{max(0, self._to_run - done - len(self._running))} to do"
        )
        running = [(self.name(n), now - began, self.texts.get(n)) for n, began in self._running.items()]
        below = running_lines(running, max(1, height - 1))
        room = max(0, height - 1 - len(below))
        states = [*((line, "green") for line in self._ended), *((line, "red") for line in self._broken)]
        ended = states[-room:] if room else []
        room = max(0, room - len(ended))
        above = [(f"         {line}", "cyan") for line in self._cached[-min(room, SHOWN_CACHED) :]] if room else []
        return [(head, ""), *above, *ended, *below]
