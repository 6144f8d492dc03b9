"""What is repainted below the finished blocks of a build of packages."""

from __future__ import annotations

import io
import threading

import pytest

from boxwright.cli.packagewatch import Watch
from boxwright.cli.painting import Painter, make_room
from boxwright.cli.steptext import StepText
from boxwright.events import Planned, StepFailed, StepFinished, StepStarted
from tests.unit.cli.graphs import graph, plan


def watching(monkeypatch: pytest.MonkeyPatch) -> tuple[Watch, dict[int, StepText]]:
    """A watch over a small graph that paints nothing by itself."""
    monkeypatch.setattr(Painter, "start", lambda _: None)
    texts: dict[int, StepText] = {}
    watch = Watch(graph(), texts, threading.RLock())
    watch.take(Planned(plan()))
    return watch, texts


@pytest.mark.parametrize("height", [1, 2, 3, 8, 24, 60])
def test_it_fits_and_leaves_half_of_the_window(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, texts = watching(monkeypatch)
    for position in (1, 2):
        watch.take(StepStarted(position))
        texts[position] = StepText()
        texts[position].feed(b"".join(b"line %d\n" % number for number in range(40)))
    lines = watch.frame(height)
    assert len(lines) <= max(min(height, 8), height // 2)
    assert "2 running" in lines[-1][0]
    if height >= 8:
        assert any("line 39" in text for text, _ in lines)


def test_phases_are_named_and_what_ended_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _ = watching(monkeypatch)
    watch.take(StepStarted(2))
    watch.phases(2, ["checking", "== configure", "== build\x1b[31m", "cc"])
    assert watch.frame(10)[0][0].endswith("RUN two: build")
    watch.take(StepFinished(2, 1.0))
    watch.take(StepStarted(1))
    watch.take(StepFailed(1, 1.0))
    assert [text.split("s ", 1)[1] for text, _ in watch.frame(10)] == ["2 done, 0 running, 0 to do"]


def test_a_narrower_window_is_cleared_of_what_it_broke() -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=10, force_terminal=True)
    make_room(console, [10, 5])
    assert out.getvalue() == ""
    make_room(console, [25, 5, 11])
    assert out.getvalue() == "\x1b[2K\x1b[1A" * 3
