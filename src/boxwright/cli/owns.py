"""Say whose a file of an image is: which package has it, or which step made it."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `owns`."""
    parser.add_argument("image", metavar="IMAGE", help="an image's name, or the beginning of its digest")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file in it; symbolic links are followed")


def run(options: argparse.Namespace) -> int:
    """Print a line for each path."""
    from boxwright.app.lookup import find_image
    from boxwright.app.opening import open_store
    from boxwright.app.whyfile import owner_of, said_owner
    from boxwright.cli.steptext import clean

    with open_store(os.environ) as store:
        image = find_image(store, options.image)
        for path in options.paths:
            found, owner = owner_of(image, store, path)
            say(f"/{clean(found)}: {clean(said_owner(owner))}")
    return 0
