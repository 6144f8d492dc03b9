"""Pull an image from a registry, or an image or a package from configured repositories: boxwright pull NAME..."""

from __future__ import annotations

import argparse

from boxwright.cli import registrypull
from boxwright.cli.sharingoptions import add_from


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `pull`."""
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], or a package"
    )
    add_from(parser, "--from", "a configured repository; repeatable. REGISTRY/... names ask registries")
    registrypull.configure(parser)


def run(options: argparse.Namespace) -> int:
    """Names with a registry's host are registries'; others are those of repositories, where there are any."""
    from boxwright.cli.binarypush import configured, pull

    hosted = any(_has_host(name) for name in options.names)
    if options.repositories or (not hosted and configured(())):
        return pull(options)
    return registrypull.run(options)


def _has_host(name: str) -> bool:
    """Whether the name begins with a registry, as docker reads it: HOST.DOMAIN/, HOST:PORT/ or localhost/."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")
