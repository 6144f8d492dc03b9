"""Restart instances of a stack, one after the other; each must be well before the next one."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say
from boxwright.cli.stackoptions import PATIENCE, add_engine, meant, members, opened, split_member


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `restart`."""
    parser.add_argument("names", nargs="*", metavar="[STACK/]NAME", help="a container or an instance; default: all")
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Take each out of the balance, stop and start it, and print its name once it is well."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.contents import StackContents
    from boxwright.app.stacks.deployment import last_release
    from boxwright.deploy.applying import apply_plan
    from boxwright.deploy.planning import restart_plan

    for stack, name in [split_member(text) for text in options.names] or [("", "")]:
        found = meant(stack or None, options)
        with open_store(os.environ) as store, opened(found, store) as engine, engine.lock(found.name, PATIENCE):
            chosen = [it.logical for it in members(engine, found.name, name)]
            desired = last_release(engine, found.name).desired
            observed = engine.observe(found.name)
            plan = restart_plan(desired, observed, chosen)
            contents = StackContents(engine, found.name, {})
            apply_plan(engine, desired, observed, plan, contents, lambda it: say(it.name))
    return 0
