"""Bring images and packages from the configured repositories."""

from __future__ import annotations

import argparse

from boxwright.app.privileges import ensure_privileges
from boxwright.app.pulling import pull
from boxwright.cli.console import human_size, say
from boxwright.cli.sharingoptions import add_from, repositories


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `pull`."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="an image, or a package by name or HASH")
    add_from(parser, "--from", "only this repository; repeatable")


def run(options: argparse.Namespace) -> int:
    """Bring each from the first repository that has it."""
    with repositories(options.repositories) as (store, found):
        ensure_privileges()
        for name in options.names:
            got = pull(found, name, store)
            received = human_size(got.received)
            say(f"{got.name}  {got.identity}  {human_size(got.size)}  {received} received from {got.origin}")
    return 0
