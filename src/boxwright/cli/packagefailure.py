"""A package that could not be built, as a person reads it."""

from __future__ import annotations

from collections.abc import Callable

from boxwright.cli.console import complain, note
from boxwright.errors import BoxwrightError, StepError
from boxwright.model.graph import Graph
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
    error.where = error.where or node.span
    lines = tail(failure.position)
    note("")
    if lines:
        note(f"the end of what {node.title} wrote:")
        for line in lines:
            note(f"  {line}")
        note("")
    complain(error)
    if isinstance(error, StepError) and isinstance(node.step, BuildPackage):
        phase = failed_phase(lines, node.step)
        note("for a shell in the sandbox after the phase that failed:")
        note(f"  boxwright shell {node.span.file} --after {phase}")
    return error.exit_status


def failed_phase(lines: list[str], step: BuildPackage) -> str:
    """The last phase that began."""
    names = [line.removeprefix("== ") for line in lines if line.startswith("== ")]
    known = [name for name, _, _ in step.phases]
    found = [name for name in names if name in known]
    return found[-1] if found else (known[-1] if known else "prepare")
