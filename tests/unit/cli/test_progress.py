from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from boxwright.cli.progress import Display, JsonDisplay, PlainDisplay, display_for
from boxwright.cli.progress_live import LiveDisplay
from boxwright.events import Event, Message, Planned, StepFailed, StepFinished, StepOutput, StepStarted
from boxwright.model.digest import digest_of
from boxwright.model.image import Image, ImageConfig, Snapshot
from boxwright.model.tree import Manifest
from tests.unit.cli.graphs import graph, plan

BUILD: list[Event] = [
    Planned(plan()),
    StepStarted(2),
    StepOutput(2, b"hel"),
    StepOutput(2, b"lo\n\x1b[31mred\x1b[0m\nopen"),
    StepFinished(2, 1.5),
    Message("note", "read this"),
]
DIGEST = digest_of(b"")
IMAGE = Image(DIGEST, ImageConfig("amd64"), Snapshot(DIGEST, (), Manifest(DIGEST, DIGEST), 0), 5, 7)


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(graph())
    for event in BUILD:
        display.emit(event)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "#1 CACHED [base] FROM scratch (a later step is cached)",
        "#2 CACHED [main] RUN one",
        "#3 [main] RUN two",
        "#3 hello",
        "#3 red",
        "#3 open",
        "#3 DONE 1.50s",
        "note: read this",
    ]


def test_the_first_failure_is_told_from_what_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(graph())
    begun = (StepStarted(1), StepStarted(2), StepOutput(2, b"why\n"))
    for event in (*begun, StepFailed(2, 0.1), StepFailed(1, 0.2, stopped=True)):
        display.emit(event)
    assert capsys.readouterr().err.splitlines()[-2:] == ["#3 FAILED 0.10s", "#2 STOPPED 0.20s"]
    assert display.tail(2) == ["why"]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonDisplay(graph())
    for event in (*BUILD[:2], StepOutput(2, "ö".encode()[:1]), StepOutput(2, "ö".encode()[1:]), *BUILD[4:]):
        display.emit(event)
    display.result(IMAGE, 2.0)
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["event"] for item in objects] == [
        "plan", "started", "output", "output", "finished", "message", "result"
    ]  # fmt: skip
    assert [step["action"] for step in objects[0]["steps"]] == ["unused", "reuse", "run"]
    assert objects[2]["text"] + objects[3]["text"] == "ö"
    assert objects[-1] == {"event": "result", "image": DIGEST, "size": 7, "created": 5, "seconds": 2.0}


def test_quiet_says_nothing_and_keeps_the_tail(capsys: pytest.CaptureFixture[str]) -> None:
    display = display_for("live", graph(), quiet=True)
    for event in BUILD[:4]:
        display.emit(event)
    display.close()
    assert capsys.readouterr() == ("", "")
    assert display.tail(2) == ["hello", "red", "open"]


def test_without_a_terminal_auto_and_live_are_plain() -> None:
    assert type(display_for("auto", graph(), quiet=False)) is PlainDisplay
    assert type(display_for("live", graph(), quiet=False)) is PlainDisplay


def test_a_short_build_leaves_a_summary_and_no_painting(capsys: pytest.CaptureFixture[str]) -> None:
    display = LiveDisplay(graph())
    for event in BUILD:
        display.emit(event)
    display.close()
    display.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["note: read this", "   1.50s [main] RUN two"]
    assert lines[2].startswith("2 steps cached, 1 run in ")
    assert len(lines) == 3


@pytest.mark.parametrize("height", [1, 2, 4, 24])
def test_a_frame_fits_the_terminal(height: int) -> None:
    from rich.console import Console

    display = LiveDisplay(graph())
    display.show(Planned(plan()))
    display.show(StepFinished(0, 1.0))
    display._running = {1: 0.0, 2: 0.0}
    display.emit(StepOutput(2, b"line\n" * 10))
    console = Console(width=30, color_system=None)
    with console.capture() as capture:
        console.print(display.frame(height))
    lines = capture.get().splitlines()
    assert len(lines) <= max(height, 2)
    assert all(len(line) <= 30 for line in lines)
    if height == 24:
        assert sum("| line" in line for line in lines) == 6
        assert any("CACHED [main] RUN one" in line for line in lines)


def test_many_threads_may_emit(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(graph())

    def emit(number: int) -> None:
        for _ in range(200):
            display.emit(StepOutput(number, b"word\n"))

    work = [threading.Thread(target=emit, args=(number,)) for number in range(3)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert sorted(set(lines)) == ["#1 word", "#2 word", "#3 word"]
    assert len(lines) == 600


def test_plain_and_live_start_without_rich() -> None:
    code = (
        "import sys; import boxwright.cli.progress_live; "
        "sys.exit(any(name.partition('.')[0] == 'rich' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_the_display_of_nothing_is_the_base() -> None:
    assert type(display_for("json", graph(), quiet=True)) is Display
