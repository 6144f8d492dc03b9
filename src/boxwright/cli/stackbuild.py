"""Builds a stack's images: each by a child of this process that runs `build`, several at a time."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from boxwright.cli.console import note
from boxwright.errors import BoxwrightError

if TYPE_CHECKING:
    from boxwright.app.stacks.images import ImageBuild

AT_ONCE = 4
_TAIL = 4000


def build_images(builds: Sequence[ImageBuild], done: set[str], *, quiet: bool) -> None:
    """Build those that are not in `done`, which they are added to. Call it while this process has one thread.

    Raises BoxwrightError `deploy.build` with the end of what the build wrote.
    """
    from boxwright.app.stacks.images import in_waves

    wanted = [it for it in builds if not done.issuperset(it.tags)]
    with tempfile.TemporaryDirectory(prefix="boxwright-") as directory:
        empty = f"{directory}/empty"
        os.mkdir(empty)
        for wave in in_waves([it._replace(after=tuple(x for x in it.after if x not in done)) for it in wanted]):
            _run_wave(wave, directory, empty, quiet=quiet)
            done.update(tag for it in wave for tag in it.tags)


def _run_wave(wave: Sequence[ImageBuild], directory: str, empty: str, *, quiet: bool) -> None:
    left = list(enumerate(wave))
    running: dict[int, tuple[ImageBuild, str, float]] = {}
    failed: BoxwrightError | None = None
    while left or running:
        while left and len(running) < AT_ONCE and failed is None:
            number, build = left.pop(0)
            log = f"{directory}/{number}"
            running[_start(build, log, empty)] = (build, log, time.monotonic())
        if not running:
            break
        pid, status = os.wait()
        if pid not in running:
            continue
        build, log, began = running.pop(pid)
        if os.waitstatus_to_exitcode(status):
            failed = failed or _failure(build, log)
        elif not quiet:
            note(f"built {build.tag}  {time.monotonic() - began:.2f} s")
    if failed is not None:
        raise failed


def _start(build: ImageBuild, log: str, empty: str) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_build(build, log, empty)
    return pid


def _be_build(build: ImageBuild, log: str, empty: str) -> NoReturn:
    """`boxwright build`, with what it writes in a file and the recipe's text on standard input."""
    from boxwright.app.stacks.images import EMPTY
    from boxwright.cli.main import main

    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with tempfile.TemporaryFile() as text:
            text.write(build.text.encode())
            text.seek(0)
            for source, target in ((text.fileno(), 0), (output, 1), (output, 2)):
                os.dup2(source, target)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        words = [empty if word == EMPTY else word for word in build.words]
        tags = [word for tag in build.tags for word in ("-t", tag)]
        status = main(["build", *words, *tags, "--progress", "plain"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _failure(build: ImageBuild, log: str) -> BoxwrightError:
    with open(log, encoding="utf-8", errors="replace") as file:
        said = file.read()[-_TAIL:].strip()
    names = ", ".join(build.containers)
    message = f"the image {build.tag} of {names} can't be built:\n{said}"
    return BoxwrightError("deploy.build", message)
