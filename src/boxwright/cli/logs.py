"""Show what a container, or the instances of a stack, wrote."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from boxwright.cli.stackoptions import add_engine, meant, members, opened, refuse_engine, split_member

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.deployment import Instance

_LOOK_SECONDS = 1.0
_GONE_SECONDS = 5.0
"""How long nothing of a stack may run before `-f` ends: it may be being replaced."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="CONTAINER|STACK/[NAME]",
        help="a container; or a stack's, all of them without NAME (default: of ./autopilot.yaml)",
    )
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Print the log's bytes as they are; of several instances line by line, each with its name before it."""
    if options.name is None or "/" in options.name:
        return _of_stack(options)
    refuse_engine(options, "containers of 'boxwright run'")
    from boxwright.app.containers import open_engine
    from boxwright.engines.streams import read_log

    container = open_engine(os.environ).records.get(options.name)
    for data in read_log(container.log, lambda: options.follow and container.is_running()):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


def _of_stack(options: argparse.Namespace) -> int:
    from boxwright.app.opening import open_store

    stack, name = split_member(options.name or "")
    found = meant(stack or None, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        chosen = members(engine, found.name, name)
        stop = threading.Event()
        if not options.follow:
            stop.set()
        copies = _Copies(engine, max(len(it.logical) for it in chosen), stop)
        copies.begin(chosen)
        if not options.follow:
            copies.end()
            return 0
        try:
            last = time.monotonic()
            while time.monotonic() - last < _GONE_SECONDS:
                stop.wait(_LOOK_SECONDS)
                copies.begin(_now(engine, found.name, name))
                last = time.monotonic() if copies.are_under_way() else last
        finally:
            stop.set()
    return 0


def _now(engine: DeployEngine, stack: str, name: str) -> list[Instance]:
    """Those that run now: an update has replaced some."""
    from boxwright.errors import BoxwrightError

    try:
        return [it for it in members(engine, stack, name) if it.state == "running"]
    except BoxwrightError:
        return []


class _Copies:
    """Instances' logs on their way to standard output, each in a thread of its own."""

    def __init__(self, engine: DeployEngine, width: int, stop: threading.Event) -> None:
        self._engine = engine
        self._width = width
        self._stop = stop
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._shown: dict[str, _Shown] = {}

    def begin(self, instances: Iterable[Instance]) -> None:
        """Those that are not on their way yet, or were started again."""
        for it in instances:
            if it.name not in self._threads or not self._threads[it.name].is_alive():
                self._threads[it.name] = threading.Thread(target=self._copy, args=(it,), daemon=True)
                self._threads[it.name].start()

    def are_under_way(self) -> bool:
        """Whether one of them may write more."""
        return any(it.is_alive() for it in self._threads.values())

    def end(self) -> None:
        """Wait until all have written what there is."""
        for thread in self._threads.values():
            thread.join()

    def _copy(self, instance: Instance) -> None:
        """Whole lines, so that those of several instances don't run into each other."""
        prefix = f"{instance.logical:<{self._width}} | "
        before = self._shown.get(instance.name, _Shown())
        shown = self._shown[instance.name] = _Shown()
        rest = b""
        for data in _unless_shown(self._engine.logs(instance.name, lambda: not self._stop.is_set()), before, shown):
            *lines, rest = (rest + data).split(b"\n")
            _write(lines, prefix, self._lock)
        if rest:
            _write([rest], prefix, self._lock)


class _Shown:
    """How much of a log was shown, and its digest."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """So much more."""
        self.size += len(data)
        self.digest.update(data)


def _unless_shown(log: Iterable[bytes], before: _Shown, shown: _Shown) -> Iterator[bytes]:
    """Without what an instance's log began with before it was started again, where it still begins so."""
    held = b""
    for data in log:
        shown.add(data)
        if not before.size:
            yield data
            continue
        held += data
        if len(held) >= before.size:
            same = hashlib.sha256(held[: before.size]).digest() == before.digest.digest()
            yield held[before.size :] if same else held
            before = _Shown()
    if before.size:
        yield held


def _write(lines: list[bytes], prefix: str, lock: threading.Lock) -> None:
    with lock:
        for line in lines:
            sys.stdout.buffer.write(prefix.encode() + line + b"\n")
        sys.stdout.buffer.flush()
