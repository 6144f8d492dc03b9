"""Show what a container, or the instances of a stack, wrote."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from typing import TYPE_CHECKING

from boxwright.cli.stackoptions import add_engine, meant, members, opened, split_member

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.deployment import Instance


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
        width = max(len(it.logical) for it in chosen)
        lock = threading.Lock()
        stop = threading.Event()
        follow = [
            threading.Thread(target=_copy, args=(engine, it, f"{it.logical:<{width}} | ", lock, stop), daemon=True)
            for it in chosen
        ]
        if not options.follow:
            stop.set()
        for thread in follow:
            thread.start()
        try:
            for thread in follow:
                thread.join()
        finally:
            stop.set()
    return 0


def _copy(engine: DeployEngine, instance: Instance, prefix: str, lock: threading.Lock, stop: threading.Event) -> None:
    """Whole lines, so that those of several instances don't run into each other."""
    rest = b""
    for data in engine.logs(instance.name, lambda: not stop.is_set()):
        *lines, rest = (rest + data).split(b"\n")
        _write(lines, prefix, lock)
    if rest:
        _write([rest], prefix, lock)


def _write(lines: list[bytes], prefix: str, lock: threading.Lock) -> None:
    with lock:
        for line in lines:
            sys.stdout.buffer.write(prefix.encode() + line + b"\n")
        sys.stdout.buffer.flush()
