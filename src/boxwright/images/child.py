"""A program that takes a stream on its standard input."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from boxwright.images.streams import Sink

_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and the end of what it said."""

    status: int
    said: str


def feed(command: Sequence[str], produce: Callable[[Sink], object], env: Mapping[str, str] | None = None) -> Ended:
    """Run `command` with what `produce` writes as its input. A program that stops reading has its own reason to tell.

    When `produce` fails the program is ended before the error goes on.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=env)
        assert process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        try:
            with contextlib.suppress(BrokenPipeError):
                produce(process.stdin)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait()
        output.seek(0)
        return Ended(status, output.read().decode("utf-8", "replace")[-_TAIL:].strip())
