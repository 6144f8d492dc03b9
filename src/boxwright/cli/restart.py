"""Restart instances of a stack, one after the other; each must be well before the next one."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say
from boxwright.cli.stackoptions import add_engine, meant, members, opened, split_member


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `restart`."""
    parser.add_argument("names", nargs="*", metavar="[STACK/]NAME", help="a container or an instance; default: all")
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Stop and start each, and print its name."""
    from boxwright.app.opening import open_store
    from boxwright.deploy.health import await_well

    for stack, name in [split_member(text) for text in options.names] or [("", "")]:
        found = meant(stack or None, options)
        with open_store(os.environ) as store, opened(found, store) as engine, engine.lock(found.name):
            for instance in members(engine, found.name, name):
                engine.stop(instance.name, instance.spec.stop_seconds if instance.spec else 10.0)
                engine.start(instance.name)
                if instance.spec is not None:
                    await_well(engine, instance.name, instance.spec, lambda: False)
                say(instance.logical)
    return 0
