"""The displays of a build: plain lines, JSON for programs, nothing; the live one stands in `progress_live`."""

from __future__ import annotations

import os
import sys
import threading
from codecs import IncrementalDecoder, getincrementaldecoder
from typing import TYPE_CHECKING

from boxwright.cli.steptext import StepText, clean
from boxwright.events import Event, Message, Planned, StepFailed, StepFinished, StepOutput, StepPlaced, StepStarted
from boxwright.model.plan import Action

if TYPE_CHECKING:
    from boxwright.model.graph import Graph, Node
    from boxwright.model.image import Image
    from boxwright.model.plan import Decision

CACHED = (Action.REUSE, Action.UNUSED)


def display_for(mode: str, graph: Graph, *, quiet: bool) -> Display:
    """The display of `mode`: auto, live, plain or json. `auto` is live on a terminal; `live` is plain elsewhere."""
    if quiet:
        return Display(graph)
    if mode == "json":
        return JsonDisplay(graph)
    if is_live(mode):
        from boxwright.cli.progress_live import LiveDisplay

        return LiveDisplay(graph)
    return PlainDisplay(graph)


def is_live(mode: str) -> bool:
    """Whether the terminal can be repainted and `mode` wants it: `auto` and `live` do."""
    return mode in ("auto", "live") and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Display:
    """Shows nothing. Any thread may call `emit`; the end of each step's output is kept until it is done."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lock = threading.RLock()
        self.texts: dict[int, StepText] = {}
        self.failed = False

    def emit(self, event: Event) -> None:
        """Take note of an event, and show it."""
        with self.lock:
            if isinstance(event, StepOutput):
                text = self.texts.get(event.position)
                if text is None:
                    text = self.texts[event.position] = StepText()
                self.output(event, text.feed(event.data))
                return
            if isinstance(event, StepFinished | StepFailed) and (text := self.texts.get(event.position)):
                self.output(StepOutput(event.position, b""), text.end())
            self.show(event)
            if isinstance(event, StepFinished):
                self.texts.pop(event.position, None)
            elif isinstance(event, StepFailed):
                self.failed = True

    def output(self, event: StepOutput, lines: list[str]) -> None:
        """What a step wrote, and the lines that it completes."""

    def show(self, event: Event) -> None:
        """Any other event."""

    def tail(self, position: int) -> list[str]:
        """The end of what an unfinished or failed step wrote."""
        with self.lock:
            text = self.texts.get(position)
            return text.tail() if text else []

    def close(self) -> None:
        """Leave the terminal as it was. May be called again."""

    def result(self, image: Image, seconds: float) -> None:
        """The build's result."""

    def name(self, position: int) -> str:
        """A step's stage and title."""
        return step_name(self.graph.nodes[position])


def step_name(node: Node) -> str:
    """A step's stage and title, fit to be shown."""
    return f"[{clean(node.stage)}] {clean(' '.join(node.title.splitlines()))}"


class PlainDisplay(Display):
    """Lines on standard error."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._started: set[int] = set()

    def output(self, event: StepOutput, lines: list[str]) -> None:
        """Each line with the number of its step."""
        if lines:
            _write("".join(f"#{event.position + 1} {line}\n" for line in lines))

    def show(self, event: Event) -> None:
        """One line for most events."""
        match event:
            case Planned(plan):
                _write(
                    "".join(
                        f"#{position + 1} CACHED {self.name(position)}{cached_reason(decision.reason)}\n"
                        for position, decision in enumerate(plan.decisions)
                        if decision.action in CACHED
                    )
                )
            case StepStarted(position):
                self._started.add(position)
                _write(f"#{position + 1} {self.name(position)}\n")
            case StepFinished(position, seconds):
                if position in self._started:
                    _write(f"#{position + 1} DONE {seconds:.2f}s\n")
                else:
                    _write(f"#{position + 1} CACHED {self.name(position)} (another build made it meanwhile)\n")
            case StepFailed(position, seconds, stopped):
                _write(f"#{position + 1} {'STOPPED' if stopped else 'FAILED'} {seconds:.2f}s\n")
            case Message(level, text):
                _write(f"{level}: {clean(text)}\n")


def cached_reason(reason: str) -> str:
    """Why a step is not run, where there is more to say than that it is recorded."""
    return "" if reason == "cached" else f" ({clean(reason)})"


def _write(text: str) -> None:
    if text:
        sys.stderr.write(text)
        sys.stderr.flush()


class JsonDisplay(Display):
    """One JSON object a line on standard output for each event (docs/cli.md)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._decoders: dict[int, IncrementalDecoder] = {}

    def output(self, event: StepOutput, lines: list[str]) -> None:
        """What a step wrote, as it wrote it."""
        if not event.data:
            return
        if event.position not in self._decoders:
            self._decoders[event.position] = getincrementaldecoder("utf-8")("replace")
        put_object(event="output", step=event.position + 1, text=self._decoders[event.position].decode(event.data))

    def show(self, event: Event) -> None:
        """One object for each."""
        match event:
            case Planned(plan):
                put_object(event="plan", steps=[self._step(n, decision) for n, decision in enumerate(plan.decisions)])
            case StepStarted(position):
                put_object(event="started", step=position + 1)
            case StepPlaced(position, server, found):
                put_object(event="placed", step=position + 1, server=server, found=found)
            case StepFinished(position, seconds, shared):
                put_object(event="finished", step=position + 1, seconds=round(seconds, 4), shared=shared)
            case StepFailed(position, seconds, stopped):
                put_object(event="failed", step=position + 1, seconds=round(seconds, 4), stopped=stopped)
            case Message(level, text):
                put_object(event="message", level=level, text=text)

    def _step(self, position: int, decision: Decision) -> dict[str, object]:
        node = self.graph.nodes[position]
        return {
            "step": position + 1,
            "stage": node.stage,
            "title": node.title,
            "where": str(node.span),
            "action": decision.action.value,
            "reason": decision.reason,
            "key": decision.key,
        }

    def result(self, image: Image, seconds: float) -> None:
        """The last object of a build that succeeded."""
        put_object(
            event="result", image=image.identity, size=image.size, created=image.created, seconds=round(seconds, 3)
        )


def put_object(**fields: object) -> None:
    """Write one of these objects."""
    import json

    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
