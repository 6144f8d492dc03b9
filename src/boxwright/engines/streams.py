"""What a container in the foreground writes, handed on to the user and kept in its log."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator

from boxwright.files import write_all

_CHUNK = 1 << 16
_FOLLOW_SECONDS = 0.1


def copy_until_end(pipes: dict[int, int], log: int, ended: int) -> None:
    """Copy each pipe to its descriptor and to the log, until the process of the pidfd `ended` is gone and all is read.

    A pipe may stay open in somebody's hands after that. A user who no longer listens doesn't stop the container.
    """
    poll = select.poll()
    targets = dict(pipes)
    for source in targets:
        os.set_blocking(source, False)
        poll.register(source, select.POLLIN)
    poll.register(ended, select.POLLIN)
    alive = True
    while alive:
        for fd, _ in poll.poll():
            if fd == ended:
                alive = False
            elif not _copy(fd, targets, log):
                poll.unregister(fd)
    for source in targets:
        while _copy(source, targets, log):
            pass


def _copy(source: int, targets: dict[int, int], log: int) -> bool:
    try:
        data = os.read(source, _CHUNK)
    except BlockingIOError:
        return False
    if not data:
        return False
    write_all(log, data)
    if targets[source] >= 0:
        try:
            write_all(targets[source], data)
        except BrokenPipeError:
            targets[source] = -1
    return True


def read_log(path: str, goes_on: Callable[[], bool]) -> Iterator[bytes]:
    """A log's bytes; as long as `goes_on`, also what is added."""
    with open(path, "rb", buffering=0) as file:
        while True:
            more = goes_on()
            while data := file.read(_CHUNK):
                yield data
            if not more:
                return
            time.sleep(_FOLLOW_SECONDS)
