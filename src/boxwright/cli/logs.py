"""Show what a container wrote."""

from __future__ import annotations

import argparse
import os
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("name", metavar="CONTAINER")


def run(options: argparse.Namespace) -> int:
    """Print the log's bytes as they are."""
    from boxwright.app.containers import open_engine
    from boxwright.engines.streams import read_log

    container = open_engine(os.environ).records.get(options.name)
    for data in read_log(container.log, lambda: options.follow and container.is_running()):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0
