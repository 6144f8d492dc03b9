"""Go back to an earlier release of a stack; it becomes the newest one."""

from __future__ import annotations

import argparse
import os
import time

from boxwright.cli.arguments import whole
from boxwright.cli.console import note
from boxwright.cli.stackoptions import add_engine, meant, opened

MOST = 10**9


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `rollback`."""
    from boxwright.cli.deploy import add_working

    text = "its number (events shows them); default: the last but one"
    parser.add_argument("release", nargs="?", type=whole("release", 1, MOST), metavar="N", help=text)
    parser.add_argument("--stack", metavar="STACK", help="its name, or its definition (./autopilot.yaml)")

    add_engine(parser)
    add_working(parser)


def run(options: argparse.Namespace) -> int:
    """Plan and apply what that release was."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.contents import StackContents
    from boxwright.app.stacks.deployment import SETTLED, check_prepared, prepare_deployment, rolled_back
    from boxwright.cli.deploy import changing, work

    began = time.monotonic()
    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine, changing(engine, found.name, options):
        release = rolled_back(engine, found.name, options.release)
        contents = StackContents(engine, found.name, {})
        prepared = prepare_deployment(engine, release.desired, contents, (), patience=SETTLED, basis=release.basis)
        if not (options.plan or options.quiet or options.json):
            note(f"back to release {release.number}: {release.reason}")
        return work(engine, check_prepared(prepared), store, f"rollback to {release.number}", options, began)
