"""Say what this machine can do, and how to mend what it can't. Exit status 3 where it can't build."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say

CANNOT_BUILD = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(options: argparse.Namespace) -> int:
    """Examine the machine."""
    from boxwright.app.doctor import Check, can_build, examine
    from boxwright.cli.steptext import clean

    checks: list[Check] = []
    for check in examine(os.environ):
        checks.append(check)
        if not options.json:
            mend = "" if check.ok else f"; {check.mend}"
            state = "ok     " if check.ok else "MISSING" if check.needed else "missing"
            say(f"{state}  {check.name}: {clean(check.seen)}{mend}")
    works = can_build(checks)
    if options.json:
        import dataclasses
        import json

        say(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        say("this machine can build" if works else "this machine can't build until what is MISSING is mended")
    return 0 if works else CANNOT_BUILD
