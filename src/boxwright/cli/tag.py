"""Give an image another name. An image that had the name loses it."""

from __future__ import annotations

import argparse
import os

from boxwright.app.names import image_name
from boxwright.app.opening import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tag`."""
    parser.add_argument("source", metavar="IMAGE", help="a name or the beginning of a digest")
    parser.add_argument("name", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Give the name."""
    from boxwright.app.lookup import find_image
    from boxwright.store.images import Images

    name = image_name(options.name)
    with open_store(os.environ) as store:
        Images(store).tag(find_image(store, options.source), name)
    return 0
