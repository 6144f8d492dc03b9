"""What a small process beside a container does: kill it when its user is gone, remove it when it has ended."""

from __future__ import annotations

import os
import select

from boxwright.engines.native import NativeEngine
from boxwright.engines.records import Container
from boxwright.errors import BoxwrightError

DONE = b"."
"""Comes over the lifeline from a foreground process that cleans up itself."""


def attend_until_end(engine: NativeEngine, container: Container, lifeline: int) -> None:
    """Until it has ended. `lifeline` is a pipe from the foreground process, or -1 for a detached container."""
    if lifeline >= 0:
        if _user_is_done(lifeline):
            return
        engine.kill(container)
    engine.wait(container)
    engine.stop_linked(container)
    if container.config.auto_remove:
        try:
            engine.remove(container)
        except (BoxwrightError, OSError):
            return  # nobody is there to hear of it; `boxwright ps` tries again


def _user_is_done(lifeline: int) -> bool:
    """Whether the foreground process says so; False when it was killed."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.poll()
    return os.read(lifeline, 1) == DONE
