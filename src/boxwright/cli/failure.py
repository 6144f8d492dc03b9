"""A failed step as a person reads it: the recipe's lines, the end of the output, and the way into its state."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

from boxwright.app.build import Build
from boxwright.app.shells import ShellRequest, open_shell, request_for
from boxwright.cli.console import complain, note
from boxwright.cli.excerpt import source_lines
from boxwright.cli.progress import step_name
from boxwright.cli.steptext import clean
from boxwright.errors import BoxwrightError, StepError
from boxwright.model.graph import Graph
from boxwright.solver.scheduler import Failed
from boxwright.store.store import Store


def explain_failure(
    failure: Failed, build: Build, store: Store, *, debug: bool, tail: Callable[[int], list[str]], walks: bool = False
) -> int:
    """Say what failed; with `debug` open a shell there. Returns the exit status. `tail` is the display's.

    With `walks` the caller opens a prompt there.
    """
    error = failure.error
    if not isinstance(error, BoxwrightError):
        raise error
    node = build.graph.nodes[failure.position]
    if error.where is None:
        error.where = node.span
    lines = tail(failure.position)
    if not lines and isinstance(error, StepError):
        lines = [clean(line) for line in error.tail.splitlines()]
    request = request_for(build, failure.position) if isinstance(error, StepError) else None
    _explain(error, step_name(node), source_lines(error.where, build.definition), lines)
    if request is None or walks:
        return error.exit_status
    if debug and sys.stdin.isatty():
        note("a shell in the state before this step (what you do there is thrown away); exit leaves it")
        open_shell(store, request, build.sandbox, terminal=True)
    else:
        note("for a shell in the state before this step:")
        note(f"  {shell_command(request)}")
    return error.exit_status


def explain_step(failure: Failed, graph: Graph, definition: str) -> None:
    """Say what failed, where all that it wrote is to be seen already."""
    error = failure.error
    if not isinstance(error, BoxwrightError):
        raise error
    node = graph.nodes[failure.position]
    if error.where is None:
        error.where = node.span
    _explain(error, step_name(node), source_lines(error.where, definition), [])


def _explain(error: BoxwrightError, name: str, source: list[str], output: list[str]) -> None:
    note("")
    for line in source or [f"  {name}"]:
        note(line)
    if output:
        note("")
        note(f"the end of what {name} wrote:")
        for line in output:
            note(f"  {line}")
    note("")
    complain(error)


def shell_command(request: ShellRequest) -> str:
    """The command line that opens a shell as `request` says."""
    words = ["boxwright", "shell", "--state", request.state]
    if request.cwd not in ("", "/"):
        words += ["--workdir", request.cwd]
    if request.user:
        words += ["--user", request.user]
    if request.network != "default":
        words += ["--network", request.network]
    if request.security != "sandbox":
        words += ["--security", request.security]
    for name, value in request.env:
        words += ["--env", f"{name}={value}"]
    return shlex.join(words)
