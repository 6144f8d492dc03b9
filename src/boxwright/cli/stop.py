"""Stop containers: ask each to end, and kill it when it doesn't."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `stop`."""
    parser.add_argument("-t", "--time", type=float, default=10.0, metavar="SECONDS", help="how long to wait (10)")
    parser.add_argument("names", nargs="+", metavar="CONTAINER")


def run(options: argparse.Namespace) -> int:
    """Stop each, and print its name."""
    from boxwright.app.containers import open_engine

    engine = open_engine(os.environ)
    for container in [engine.records.get(name) for name in options.names]:
        engine.stop(container, options.time)
        say(container.name)
    return 0
