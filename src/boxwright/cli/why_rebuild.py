"""Say in which fields the identities of two packages differ."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `why-rebuild`."""
    what = "a HASH or its beginning, a name such as libs/zlib-1.3, or a definition's file or directory"
    parser.add_argument("before", metavar="A", help=what)
    parser.add_argument("after", metavar="B", help="likewise")
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(options: argparse.Namespace) -> int:
    """Compare."""
    from boxwright.app.identities import differences, identity_of
    from boxwright.app.opening import open_store
    from boxwright.cli.steptext import clean

    with open_store(os.environ) as store:
        before, after = (identity_of(store, given, os.environ) for given in (options.before, options.after))
    found = differences(before, after)
    if options.json:
        import json

        say(json.dumps([{"field": name, "before": old, "after": new} for name, old, new in found], indent=2))
        return 0
    for name, old, new in found:
        say(clean(f"{name}: {'nothing' if old is None else old} -> {'nothing' if new is None else new}"))
    if not found:
        say("the same identity")
    return 0
