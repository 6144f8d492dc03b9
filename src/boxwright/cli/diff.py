"""Say what is different between two images, or between a stack's release and what runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxwright.cli.console import human_size, say
from boxwright.cli.stackoptions import add_engine, refuse_engine

if TYPE_CHECKING:
    from boxwright.app.comparison import Comparison, FileChange

SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `diff`."""
    text = "an image's name, or the beginning of its digest; alone, or left out: a stack or its definition"
    parser.add_argument("before", nargs="?", metavar="A", help=text)
    parser.add_argument("after", nargs="?", metavar="B", help="an image")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Print it; the exit status is 0 also where there are differences, but 1 for a stack that drifted."""
    if options.after is None:
        from boxwright.cli.drift import drift

        return drift(options)
    refuse_engine(options, "images")
    from boxwright.app.comparison import compare
    from boxwright.app.lookup import find_image
    from boxwright.app.opening import open_store

    with open_store(os.environ) as store:
        found = compare(find_image(store, options.before), find_image(store, options.after), store)
    if options.json:
        import json

        data = {
            "packages": [change._asdict() for change in found.packages],
            "files": [change._asdict() for change in found.files],
            "configuration": {name: [before, after] for name, before, after in found.configuration},
            "sizes": found.sizes,
        }
        say(json.dumps(data, indent=2))
        return 0
    _print(found)
    return 0


def _print(found: Comparison) -> None:
    from boxwright.cli.steptext import clean

    for package in found.packages:
        sign = "+" if not package.before else "-" if not package.after else "~"
        said = " -> ".join(filter(None, (package.before, package.after)))
        say(f"{sign} package {clean(package.name)} {clean(said)}")
    print_changes(found.files)
    for name, before, after in found.configuration:
        say(f"~ configuration {name}: {clean(repr(before))} -> {clean(repr(after))}")
    say(f"size {human_size(found.sizes[0])} -> {human_size(found.sizes[1])}")


def print_changes(files: Sequence[FileChange]) -> None:
    """A line for each path that is different."""
    from boxwright.cli.steptext import clean

    for file in files:
        words = ", ".join(file.what)
        grown = f" ({'+' if file.size > 0 else '-'}{human_size(abs(file.size))})" if file.size else ""
        say(f"{SIGNS[file.kind]} /{clean(file.path)}{': ' + words if words else ''}{grown}")
