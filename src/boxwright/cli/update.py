"""Report newer upstream versions, and move boxwright.lock to what there is today."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say
from boxwright.cli.lock import show, write_error

if TYPE_CHECKING:
    from boxwright.app.updates import Update

FAILED = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `update`."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="DIR|PKG", help="a definition's directory, or a tree's package")
    add("-f", "--file", help="the definition")
    add("--check", action="store_true", help="report alone: the lock stays")
    add("--all", action="store_true", help="also what is the newest already")
    add("--json", action="store_true")
    add("--target", default="", help="of a recipe: the stage whose lock it is")
    add("--platform", default="", help="only the machine's own, such as linux/amd64")
    add("--mirror", help="the package mirror for base systems")


def run(options: argparse.Namespace) -> int:
    """Report, and move the lock."""
    from boxwright.app.locking import LockRequest
    from boxwright.app.opening import open_store
    from boxwright.app.updates import look_for_updates

    with open_store(os.environ) as store:
        if options.file is None and not os.path.isdir(options.directory):
            from boxwright.app.packageshell import find_package

            file = find_package(options.directory, os.environ, store).file
        else:
            from boxwright.app.definitions import find_definition

            file = find_definition(options.directory, options.file)
        request = LockRequest(
            file, options.platform, options.mirror, options.target, write_error, show, note, pull=True
        )
        update = look_for_updates(request, store, os.environ)
    written = update.lock is not None and bool(update.moved) and not options.check
    if written and update.lock is not None:
        update.lock.write()
    if options.json:
        say(_json(update, written=written))
    else:
        _report(update, options, written=written)
    asked = update.upstream
    return FAILED if asked and all(item.error for item in asked) else 0


def _report(update: Update, options: argparse.Namespace, *, written: bool) -> None:
    for item in update.upstream:
        if item.error:
            note(f"{item.name}: {item.error}")
        elif item.is_newer:
            say(f"{item.name} {item.current} -> {item.newest}  {item.file or 'in a definition'}  ({item.place})")
        elif options.all:
            say(f"{item.name} {item.current} is the newest  ({item.place})")
    for moved in update.moved:
        say(f"lock: {moved.name} {_short(moved.old) or '(new)'} -> {_short(moved.new) or '(gone)'}")
    if update.lock is None:
        note("there is no boxwright.lock: nothing to move")
    elif not update.moved:
        say(f"{update.lock.path}: nothing moved")
    else:
        say(f"{update.lock.path}: {'written' if written else 'not written (--check)'}")


def _short(text: str) -> str:
    return text if len(text) < 40 else f"{text[:19]}..."


def _json(update: Update, *, written: bool) -> str:
    found = {
        "upstream": [{**item._asdict(), "newer": item.is_newer} for item in update.upstream],
        "lock": update.lock
        and {"path": update.lock.path, "written": written, "changes": [item._asdict() for item in update.moved]},
    }
    return json.dumps(found, indent=1)
