"""Restart instances of a stack, one after the other; each must be well before the next one."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from boxwright.cli.console import say
from boxwright.cli.stackoptions import PATIENCE, add_engine, meant, members, opened, split_member

if TYPE_CHECKING:
    from boxwright.cli.stackoptions import Meant
    from boxwright.deploy.engine import DeployEngine


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `restart`."""
    parser.add_argument("names", nargs="*", metavar="[STACK/]NAME", help="a container or an instance; default: all")
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Take each out of the balance, stop and start it, and print its name once it is well.

    A name that nobody has is said before anything is restarted.
    """
    from boxwright.app.opening import open_store

    places: dict[Meant, list[str]] = {}
    for stack, name in [split_member(text) for text in options.names] or [("", "")]:
        places.setdefault(meant(stack or None, options)._replace(stack=None), []).append(name)
    for work in (members, _restart):
        for found, names in places.items():
            with open_store(os.environ) as store, opened(found, store) as engine:
                for name in names:
                    work(engine, found.name, name)
    return 0


def _restart(engine: DeployEngine, stack: str, name: str) -> None:
    from boxwright.app.stacks.contents import StackContents
    from boxwright.app.stacks.deployment import last_release
    from boxwright.deploy.applying import apply_plan
    from boxwright.deploy.planning import restart_plan
    from boxwright.errors import BoxwrightError

    with engine.lock(stack, PATIENCE):
        chosen = [it.logical for it in members(engine, stack, name)]
        desired = last_release(engine, stack).desired
        observed = engine.observe(stack)
        plan = restart_plan(desired, observed, chosen)
        apply_plan(engine, desired, observed, plan, StackContents(engine, stack, {}), lambda it: say(it.name))
    if left := sorted(set(chosen) - {it.name for it in plan.changes}):
        message = f"{', '.join(left)} of {stack}: its member does not answer, or the last release has none"
        raise BoxwrightError("deploy.not-restarted", message, hint="'boxwright status' shows which")
