"""Pin what a definition takes from outside (bases, URLs, git, packages of the distribution) in boxwright.lock."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.cli.console import note, say
from boxwright.events import Event, StepOutput


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `lock`."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="DIR", help="where the definition is (default: .)")
    add("-f", "--file", help="the definition")
    add("--target", default="", help="of a recipe: the stage to lock")
    add("--platform", default="", help="only the machine's own, such as linux/amd64")
    add("--mirror", help="the package mirror for base systems")
    add("--pull", action="store_true", help="pin bases, tags and URLs as they are today, as `update` does")


def run(options: argparse.Namespace) -> int:
    """Write the lock."""
    from boxwright.app.definitions import find_definition
    from boxwright.app.locking import LockRequest, make_lock, plan_lock
    from boxwright.app.opening import open_store

    file = find_definition(options.directory, options.file)
    request = LockRequest(
        file, options.platform, options.mirror, options.target, write_error, show, note, pull=options.pull
    )
    with open_store(os.environ) as store:
        locked = make_lock(request, plan_lock(request, store, os.environ), store)
    locked.write()
    counts = ", ".join(f"{len(part)} {name}" for name, part in locked.data.items() if isinstance(part, dict) and part)
    say(f"{locked.path}: {counts or 'nothing from outside'}")
    return 0


def show(event: Event) -> None:
    """What a base's making says, as it comes."""
    if isinstance(event, StepOutput):
        write_error(event.data)


def write_error(data: bytes) -> None:
    """To standard error."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
