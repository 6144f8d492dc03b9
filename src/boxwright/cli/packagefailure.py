"""A package that could not be built, as a person reads it."""

from __future__ import annotations

from collections.abc import Callable

from boxwright.cli.console import complain, note
from boxwright.errors import BoxwrightError, StepError
from boxwright.model.graph import Graph
from boxwright.model.span import Span
from boxwright.model.step import BuildPackage
from boxwright.solver.scheduler import Failed


def explain_package(failure: Failed, graph: Graph, tail: Callable[[int], list[str]]) -> int:
    """Say what failed and how to look at it, and what is not built; returns the exit status of the first failure."""
    status = _explain(failure, graph, tail)
    for other in failure.others:
        _explain(other, graph, tail)
    left = [node.stage for node in (graph.nodes[n] for n in failure.left) if isinstance(node.step, BuildPackage)]
    if left:
        note("")
        note(f"not built, since they need what failed: {', '.join(left)}")
    return status


def _explain(failure: Failed, graph: Graph, tail: Callable[[int], list[str]]) -> int:
    error = failure.error
    if not isinstance(error, BoxwrightError):
        raise error
    node = graph.nodes[failure.position]
    lines = tail(failure.position)
    phase = failed_phase(lines, node.step) if isinstance(node.step, BuildPackage) else ""
    error.where = error.where or phase_place(node.span, phase)
    note("")
    if lines:
        note(f"the end of what {node.title} wrote:")
        for line in lines:
            note(f"  {line}")
        note("")
    complain(error)
    if isinstance(error, StepError) and phase:
        note("for a shell in the sandbox after the phase that failed:")
        note(f"  boxwright shell {node.span.file} --after {phase}")
    return error.exit_status


def failed_phase(lines: list[str], step: BuildPackage) -> str:
    """The last phase that began."""
    names = [line.removeprefix("== ") for line in lines if line.startswith("== ")]
    known = [name for name, _, _ in step.phases]
    found = [name for name in names if name in known]
    return found[-1] if found else (known[-1] if known else "prepare")


def phase_place(definition: Span, phase: str) -> Span:
    """Where the definition says what a phase does; its beginning, where it says nothing of it."""
    from boxwright.frontends.package.document import Mapping, parse_document

    try:
        with open(definition.file, encoding="utf-8") as file:
            document = parse_document(file.read(), definition.file)
    except (OSError, ValueError, BoxwrightError):
        return definition  # it was changed meanwhile: what failed is told all the same
    phases = document.items.get("phases")
    return phases.keys[phase].span if isinstance(phases, Mapping) and phase in phases.keys else definition
