"""Keep a container's layer as a new image. The container must have ended."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `commit`."""
    parser.add_argument("name", metavar="CONTAINER")
    parser.add_argument("tag", metavar="TAG", help="the new image's name")


def run(options: argparse.Namespace) -> int:
    """Make the image, and print its digest."""
    from boxwright.app.committing import commit
    from boxwright.app.names import image_name

    say(commit(os.environ, options.name, image_name(options.tag)).identity)
    return 0
