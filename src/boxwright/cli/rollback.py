"""Go back to an earlier release of a stack; it becomes the newest one."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import PATIENCE, add_engine, meant, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `rollback`."""
    from boxwright.cli.deploy import add_working

    parser.add_argument(
        "release", nargs="?", type=int, metavar="N", help="its number (events shows them); default: the last but one"
    )
    parser.add_argument("--stack", metavar="STACK", help="its name, or its definition (./autopilot.yaml)")

    add_engine(parser)
    add_working(parser)


def run(options: argparse.Namespace) -> int:
    """Plan and apply what that release was."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.contents import StackContents
    from boxwright.app.stacks.deployment import SETTLED, carry_out, prepare_deployment, rolled_back
    from boxwright.cli.deploy import show_plan, tell

    found = meant(options.stack, options)
    quiet = options.quiet or options.json
    with open_store(os.environ) as store, opened(found, store) as engine, engine.lock(found.name, PATIENCE):
        release = rolled_back(engine, found.name, options.release)
        contents = StackContents(engine, found.name, {})
        prepared = prepare_deployment(engine, release.desired, contents, (), patience=SETTLED)
        if options.plan:
            show_plan(prepared.plan, as_json=options.json)
            return 0
        if not quiet:
            show_plan(prepared.plan, as_json=False, to_person=True)
            note(f"back to release {release.number}: {release.reason}")
        reason = f"rollback to {release.number}"
        made = carry_out(engine, prepared, store, reason, lambda it: tell(it, quiet=quiet), jobs=options.jobs)
    if not options.quiet:
        say(f"{found.name}: release {made.number}" if made else f"{found.name}: nothing to do")
    return 0
