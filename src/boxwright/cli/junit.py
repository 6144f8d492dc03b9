"""The results of validation stages as JUnit XML: a suite for each stage, a case for each of its RUN steps.

The elements and attributes are those that readers agree on (the JUnit schema of the Jenkins xUnit plugin).
"""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from boxwright.app.build import Build
from boxwright.cli.progress import Display
from boxwright.events import Event, Planned, StepFailed, StepFinished, StepStarted
from boxwright.model.plan import Action
from boxwright.model.step import OnEngine, Run, Step

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _is_run(step: Step) -> bool:
    return isinstance(step.step if isinstance(step, OnEngine) else step, Run)


class _Result(NamedTuple):
    """How a step ended: ``passed``, ``cached``, ``failed`` (the first one) or ``skipped``."""

    outcome: str
    seconds: float = 0.0


class Report:
    """Listens to a build. Any thread may call `emit`."""

    def __init__(self, build: Build, display: Display) -> None:
        self._build = build
        self._display = display
        self._lock = threading.Lock()
        self._results: dict[int, _Result] = {}
        self._started: set[int] = set()
        self._failed = False

    def emit(self, event: Event) -> None:
        """Take note, and hand on to the display."""
        with self._lock:
            self._note(event)
        self._display.emit(event)

    def _note(self, event: Event) -> None:
        match event:
            case Planned(plan):
                for position, decision in enumerate(plan.decisions):
                    if decision.action in (Action.REUSE, Action.UNUSED):
                        self._results[position] = _Result("cached")
            case StepStarted(position):
                self._started.add(position)
            case StepFinished(position, seconds):
                # Where another process made it meanwhile, nothing was started here.
                outcome = "passed" if position in self._started else "cached"
                self._results[position] = _Result(outcome, seconds)
            case StepFailed(position, seconds):
                self._results[position] = _Result("skipped" if self._failed else "failed", seconds)
                self._failed = True

    def write(self, file: str) -> None:
        """Write the report. Raises OSError."""
        root = ET.Element("testsuites", name="boxwright")
        for gate in self._build.graph.gates:
            if not gate.stage:
                continue  # the image of another entry of a matrix
            steps = [
                position
                for position, node in enumerate(self._build.graph.nodes)
                if node.stage == gate.stage and _is_run(node.step)
            ]
            root.append(self._suite(gate.stage.removeprefix("validate "), steps))
        for name in ("tests", "failures"):
            root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
        root.set("time", _seconds(sum(float(suite.get("time", "0")) for suite in root)))
        ET.indent(root)
        with open(file, "wb") as out:
            out.write(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")

    def _suite(self, stage: str, steps: Sequence[int]) -> ET.Element:
        results = [self._results.get(position, _Result("skipped")) for position in steps]
        suite = ET.Element("testsuite", name=_text(stage), tests=str(len(steps)))
        for attribute, outcome in (("failures", "failed"), ("skipped", "skipped")):
            suite.set(attribute, str(sum(result.outcome == outcome for result in results)))
        suite.set("errors", "0")
        suite.set("time", _seconds(sum(result.seconds for result in results)))
        suite.extend(self._case(stage, position, result) for position, result in zip(steps, results, strict=True))
        return suite

    def _case(self, stage: str, position: int, result: _Result) -> ET.Element:
        node = self._build.graph.nodes[position]
        case = ET.Element("testcase", name=_text(node.title), classname=_text(stage), time=_seconds(result.seconds))
        if result.outcome == "failed":
            output = "\n".join(self._display.tail(position))
            failure = ET.SubElement(case, "failure", message=_text(f"{node.title} failed at {node.span}"), type="step")
            failure.text = _text(output)
        elif result.outcome == "skipped":
            ET.SubElement(case, "skipped", message="another step failed first")
        elif result.outcome == "cached":
            ET.SubElement(case, "system-out").text = "cached: it passed before with the same inputs"
        return case


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _text(text: str) -> str:
    """`text` without what XML can't hold."""
    return _NO_XML.sub("\ufffd", text)
