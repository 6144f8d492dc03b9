"""Remove containers, or images where there is no container of that name."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `rm`."""
    parser.add_argument("-f", "--force", action="store_true", help="also a container that runs, or an image in use")
    parser.add_argument("names", nargs="+", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Remove each, and print its name."""
    from boxwright.app.removal import remove

    for name in options.names:
        remove(os.environ, name, force=options.force)
        say(name)
    return 0
