"""Repaints a part of the terminal. Rich is imported by the thread that paints, once a build has run for a moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from boxwright.cli.steptext import StepText

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REPAINT_SECONDS = 0.1
FIRST_PAINT_SECONDS = 0.15
TAIL_LINES = 6

Line = tuple[str, str]
"""A line and its style."""


class Painter:
    """Keeps `lines` (of a height at most) at the bottom of the terminal; what is `put` stands above them for good."""

    def __init__(self, lines: Callable[[int], list[Line]]) -> None:
        self._lines = lines
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._painting = False
        self._above: list[str] = []

    def start(self) -> None:
        """Begin to paint in a moment; again: nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._paint, daemon=True)
            self._thread.start()

    def put(self, *lines: str) -> None:
        """Write lines that stay."""
        with self._lock:
            if self._painting:
                self._above.extend(lines)
            else:
                _write(lines)

    def stop(self) -> None:
        """Take the painting away. May be called again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._painting = False
            _write(self._above)
            self._above.clear()

    def _paint(self) -> None:
        if self._stop.wait(FIRST_PAINT_SECONDS):
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        with self._lock:
            self._painting = True
        painted: list[int] = []
        with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
                  vertical_overflow="crop") as live:  # fmt: skip
            while not self._stop.is_set():
                make_room(console, painted)
                with self._lock:
                    above = self._above[:]
                    self._above.clear()
                if above:
                    console.print("\n".join(above), soft_wrap=True)
                lines = self._lines(console.size.height - 1)
                live.update(rendered(lines), refresh=True)
                painted = [min(len(line), console.size.width) for line, _ in lines]
                self._stop.wait(REPAINT_SECONDS)
            make_room(console, painted)
            live.update("", refresh=True)


def rendered(lines: list[Line]) -> RenderableType:
    """Lines as rich paints them: each on one row."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(line, style=style, no_wrap=True, overflow="ellipsis") for line, style in lines))


def make_room(console: Console, painted: list[int]) -> None:
    """Where the terminal became narrower it broke lines of the painting: go up to where rich believes to be."""
    from rich.control import Control
    from rich.segment import ControlType

    broken = sum(max(0, -(-length // console.size.width) - 1) for length in painted)
    if broken:
        row = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        console.control(Control(*row * broken))


def running_lines(running: Sequence[tuple[str, float, StepText | None]], room: int) -> list[Line]:
    """What runs (what is shown of it, its seconds, what it wrote), each with the end of that, in `room` lines."""
    shown = running[:room]
    each = min(TAIL_LINES, (room - len(shown)) // len(shown)) if shown else 0
    lines: list[Line] = []
    for name, seconds, text in shown:
        lines.append((f"{seconds:7.1f}s {name}", "bold"))
        lines.extend((f"         | {line}", "dim") for line in (text.tail(each) if text and each else []))
    return lines


def _write(lines: tuple[str, ...] | list[str]) -> None:
    if lines:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
