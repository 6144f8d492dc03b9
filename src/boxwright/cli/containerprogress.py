"""How a build of a container is shown: its packages one after the other, and what becomes of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from boxwright.app.composition import ContainerBuild
from boxwright.cli.packageprogress import PackageNodes, Transcript, status_line
from boxwright.cli.progress import Display, JsonDisplay
from boxwright.cli.steptext import clean
from boxwright.events import Event, StepFailed
from boxwright.model.step import Base, BuildPackage, Run


def container_display(
    mode: str, planned: ContainerBuild, directory: str, origins: Mapping[int, str], *, quiet: bool
) -> Display:
    """The display of `mode`: auto, live, plain or json."""
    if quiet:
        return Display(planned.build.graph)
    if mode == "json":
        return JsonDisplay(planned.build.graph)
    _say(f"Building {clean(planned.container.title)}")
    return ContainerTranscript(planned, directory, origins, verbose=mode == "plain").watched(mode)


class ContainerTranscript(Transcript):
    """Packages as a build of packages shows them, commands with one line; composing and copying say nothing."""

    def __init__(self, planned: ContainerBuild, directory: str, origins: Mapping[int, str], *, verbose: bool) -> None:
        nodes = PackageNodes(planned.build.graph, planned.container.packages, planned.build.keys, origins)
        super().__init__(nodes, verbose=verbose)
        self._directory = directory

    def is_shown(self, position: int) -> bool:
        """Whether a step has a block of its own."""
        step = self.graph.nodes[position].step
        return self._verbose or isinstance(step, BuildPackage | Run | Base)

    def show(self, event: Event) -> None:
        """A test that passes belongs to its package; one that fails is shown."""
        if isinstance(event, StepFailed) and not self.failed and not self.is_shown(event.position):
            self._begun.append(event.position)
        super().show(event)

    def head(self, position: int) -> list[str]:
        """How a block begins."""
        node = self.graph.nodes[position]
        if isinstance(node.step, Run):
            return [f"{clean(node.title.capitalize())}"]
        if node.stage == "container" and not isinstance(node.step, Base):
            return [clean(node.title.capitalize())]
        return super().head(position)

    def work(self, position: int) -> str:
        """What is done in a block."""
        node = self.graph.nodes[position]
        if isinstance(node.step, Run):
            return "Running the command"
        if node.stage == "container" and not isinstance(node.step, Base):
            return "Laying out files"
        return super().work(position)

    def place(self, file: str) -> str:
        """Where a definition is, seen from the container's."""
        path = os.path.relpath(os.path.dirname(file) or ".", self._directory)
        return path if path.startswith("..") else f"./{path}"


def packaging_line(title: str, kind: str, status: str) -> None:
    """The line of an image that was written."""
    _say(status_line(f"Packaging {clean(title)} as {kind.upper()}...", status))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
