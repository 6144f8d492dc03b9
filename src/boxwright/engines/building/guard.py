"""A small process beside a build: where the build is killed it removes the build's containers.

Run as a program: NAME DIRECTORY OWNER ADDRESS... It waits for the end of its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from boxwright.engines.building.choose import open_engine
from boxwright.errors import BoxwrightError

DONE = b"."


def attend(name: str, directory: str, owner: str, *addresses: str) -> None:
    """Until the build says that it is done, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == DONE:
        return
    for address in addresses:
        with suppress(BoxwrightError):
            engine = open_engine(name, address, os.environ, directory)
            try:
                engine.sweep(owner)
            finally:
                engine.close()


if __name__ == "__main__":
    attend(*sys.argv[1:])
