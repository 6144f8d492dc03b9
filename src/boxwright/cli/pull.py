"""Pull an image from a registry into the store: boxwright pull NAME..."""

from __future__ import annotations

import argparse

from boxwright.cli import registrypull


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `pull`."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]")
    registrypull.configure(parser)


def run(options: argparse.Namespace) -> int:
    """What NAME is decides: all names are registries'."""
    return registrypull.run(options)
