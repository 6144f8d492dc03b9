"""How a build of packages is shown: for each package where it is from, its HASH, and whether it was found or built."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.packages import PackageBuild
from boxwright.cli.progress import Display, JsonDisplay, PlainDisplay, is_live, put_object
from boxwright.cli.steptext import clean
from boxwright.events import Event, Message, Planned, StepFailed, StepFinished, StepOutput, StepPlaced, StepStarted
from boxwright.model.digest import Digest, hex_of
from boxwright.model.graph import Graph
from boxwright.model.package import PackageRecord
from boxwright.model.plan import Action
from boxwright.model.step import BuildPackage, TestPackage
from boxwright.solver.keys import Keys

if TYPE_CHECKING:
    from typing import Self

    from boxwright.cli.packagewatch import Watch

WIDTH = 79


def package_display(mode: str, build: PackageBuild, origins: Mapping[int, str], *, quiet: bool) -> Display:
    """The display of `mode`: auto, live, plain or json. `origins` as in PackageNodes."""
    if quiet:
        return Display(build.graph)
    if mode == "json":
        return JsonDisplay(build.graph)
    display = Transcript(PackageNodes(build.graph, (build.package,), build.keys, origins), verbose=mode == "plain")
    return display.watched(mode)


def package_result(record: PackageRecord, definition: Digest, seconds: float) -> None:
    """The last JSON object of a build that succeeded."""
    put_object(
        event="result",
        package=record.name,
        hash=hex_of(definition),
        archive=record.archive,
        size=record.record["size"],
        seconds=round(seconds, 3),
    )


class PackageNodes(NamedTuple):
    """What is shown: a graph, the nodes of the packages that were asked for, and their keys.

    `origins` says of nodes that were fetched from which repository.
    """

    graph: Graph
    packages: tuple[int, ...]
    keys: Keys
    origins: Mapping[int, str] = MappingProxyType({})


def status_line(text: str, status: str) -> str:
    """A line with its outcome at the right edge."""
    return f"{text:<{WIDTH - len(status) - 2}}[{status}]"


class Transcript(PlainDisplay):
    """The lines of each package together, in the order in which they began; `verbose`: also what the builds write.

    On a terminal, those of finished packages, and below them what runs.
    """

    def __init__(self, nodes: PackageNodes, *, verbose: bool) -> None:
        super().__init__(nodes.graph)
        self._nodes = nodes
        self._verbose = verbose
        self._begun: list[int] = []
        self._last: dict[int, str] = {}
        self._servers: dict[int, tuple[str, bool]] = {}
        self._open = -1
        self._watch: Watch | None = None

    def watched(self, mode: str) -> Self:
        """The same, with what runs below it where `mode` and the terminal allow."""
        if is_live(mode):
            from boxwright.cli.packagewatch import Watch

            self._watch = Watch(self.graph, self.texts, self.lock)
        return self

    def close(self) -> None:
        """Take away what is repainted."""
        if self._watch is not None:
            self._watch.stop()

    def output(self, event: StepOutput, lines: list[str]) -> None:
        """What a build writes is shown when it was asked for; the end of it is kept for a failure."""
        if self._watch is not None:
            self._watch.phases(event.position, lines)
        elif self._verbose:
            super().output(event, lines)

    def show(self, event: Event) -> None:
        """One line or block for most events."""
        if self._watch is not None:
            self._watch.take(event)
        match event:
            case Planned(plan):
                for package in sorted({*self._nodes.packages, *self._nodes.origins}):
                    if plan.decisions[package].action in (Action.REUSE, Action.UNUSED):
                        self._put(
                            *self.head(package), status_line(f"    Found HASH in {self._found(package)}...", "OK")
                        )
            case StepStarted(position) if self.is_shown(position):
                self._started.add(position)
                self._begun.append(position)
                self._advance()
            case StepFinished(position, _) if position in self._nodes.packages and position not in self._started:
                self._put(*self.head(position), status_line("    Found HASH in the local store...", "OK"))
            case StepPlaced(position, server, found):
                self._servers[position] = (server, found)
            case StepFinished(position, _):
                self._last[position] = "OK"
                self._advance()
            case StepFailed(position, _, stopped):
                self._last[position] = "STOPPED" if stopped else "FAILED"
                self._advance()
            case Message(level, text):
                self._put(f"{level}: {clean(text)}")

    def _found(self, package: int) -> str:
        origin = self._nodes.origins.get(package)
        return f"'{clean(origin)}'" if origin else "the local store"

    def _advance(self) -> None:
        """Show what can be shown: one block after the other; beside what runs, those that are finished."""
        if self._watch is not None:
            for position in [begun for begun in self._begun if begun in self._last]:
                self._put(*self.head(position), status_line(f"    {self.work(position)}...", self._last[position]))
                self._begun.remove(position)
            return
        while True:
            if self._open < 0:
                if not self._begun:
                    return
                self._open = self._begun.pop(0)
                self._put(*self.head(self._open))
            if self._open not in self._last:
                return
            self._put(status_line(f"    {self.work(self._open)}...", self._last[self._open]))
            self._open = -1

    def is_shown(self, position: int) -> bool:
        """Whether a step has a block of its own."""
        return True

    def head(self, position: int) -> list[str]:
        """How a block begins."""
        node = self.graph.nodes[position]
        if isinstance(node.step, TestPackage):
            return [f"Testing package {clean(node.stage)} with its run-time closure."]
        if not isinstance(node.step, BuildPackage):
            return [f"Preparing {clean(node.title)}."]
        shown = self.place(node.span.file)
        definition = self._nodes.keys.definition(position)
        lines = [f"Processing package from '{clean(shown)}' for {node.step.platform}."]
        lines.append(f"    HASH: {hex_of(definition) if definition else 'decided when the toolchain is there'}")
        if position in self._begun or position == self._open:
            lines.append("    Can't find HASH in any known location...")
        return lines

    def place(self, file: str) -> str:
        """Where a definition is."""
        place = os.path.dirname(file)
        near = os.path.relpath(place or ".")
        return place if near.startswith("..") else f"./{near}"

    def work(self, position: int) -> str:
        """What is done in a block."""
        step = self.graph.nodes[position].step
        if isinstance(step, BuildPackage):
            server, found = self._servers.get(position, ("", False))
            if server:
                return f"Found on '{clean(server)}'" if found else f"Building on '{clean(server)}'"
            return "Defaulting to local build"
        return "Running its tests" if isinstance(step, TestPackage) else "Fetching and unpacking"

    def _put(self, *lines: str) -> None:
        if self._watch is not None:
            self._watch.put(*lines)
            return
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
