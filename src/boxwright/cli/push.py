"""Push an image to a registry, or an image or a package to configured repositories: boxwright push NAME [WHERE...]."""

from __future__ import annotations

import argparse

from boxwright.cli import registrypush


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `push`."""
    parser.add_argument("image", metavar="NAME", help="an image of the store; for repositories a package too")
    parser.add_argument(
        "places",
        nargs="*",
        metavar="WHERE",
        help="configured repositories, or [REGISTRY/]REPOSITORY[:TAG]; without one, all repositories that are"
        " configured, else as the image is called",
    )
    registrypush.configure(parser)


def run(options: argparse.Namespace) -> int:
    """What WHERE is decides."""
    from boxwright.cli.binarypush import configured, push

    return push(options) if configured(options.places) else registrypush.run(options)
