"""Write a first manifest for the project in a directory: its language, dependencies and ports are looked for."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import note, say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `init`."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="DIR", help="where the project is (default: .)")
    add("--print", action="store_true", help="print it, write nothing")


def run(options: argparse.Namespace) -> int:
    """Write it."""
    from boxwright.app.definitions import DEFINITIONS
    from boxwright.app.manifest.beginning import describe, look_at, manifest_for
    from boxwright.errors import UsageError

    directory = options.directory
    if not os.path.isdir(directory):
        raise UsageError("definition.not-found", f"there is no directory {directory}")
    project = look_at(directory)
    text = manifest_for(project, os.path.basename(os.path.realpath(directory)))
    note(describe(project))
    if options.print:
        say(text.rstrip("\n"))
        return 0
    there = [name for name in DEFINITIONS if os.path.exists(os.path.join(directory, name))]
    if there:
        hint = "--print shows what would be written; `boxwright convert` turns one kind into another"
        raise UsageError("init.exists", f"{directory} holds {there[0]} already", hint=hint)
    path = os.path.join(directory, "manifest.yaml")
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
    say(path)
    return 0
