"""Push an image to a registry: boxwright push IMAGE [NAME...]."""

from __future__ import annotations

import argparse

from boxwright.cli import registrypush


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `push`."""
    parser.add_argument("image", metavar="IMAGE", help="an image of the store")
    parser.add_argument(
        "places", nargs="*", metavar="NAME", help="[REGISTRY/]REPOSITORY[:TAG]; without one, as IMAGE is called"
    )
    registrypush.configure(parser)


def run(options: argparse.Namespace) -> int:
    """What WHERE is decides: all places are registries."""
    return registrypush.run(options)
