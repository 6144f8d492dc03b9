"""Whose a build container is: a mark of the process that made it, so that others can tell when that has ended."""

from __future__ import annotations

import os

from boxwright.engines.processes import ProcessMark, is_alive, mark

LABEL = "dev.boxwright.build"
"""The label of a build container; its value is its owner."""


def own_mark() -> str:
    """The owner that this process is."""
    return mark_text(mark(os.getpid()))


def mark_text(process: ProcessMark) -> str:
    """A process as an owner."""
    return f"{process.pid}:{process.started}:{process.boot}"


def is_abandoned(owner: str) -> bool:
    """Whether the owner has ended. Who can't be read is nobody of ours."""
    pid, _, rest = owner.partition(":")
    started, _, boot = rest.partition(":")
    if not pid.isdigit() or not started.isdigit():
        return False
    return not is_alive(ProcessMark(int(pid), int(started), boot))
