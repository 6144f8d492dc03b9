"""List, export, seed and clear the directories of cache mounts."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from boxwright.cli.console import human_size, say

if TYPE_CHECKING:
    from boxwright.app.caches import ListedCache


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions, and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|export|import|clear")
    listing = actions.add_parser("list", help="list caches")
    listing.add_argument("--json", action="store_true", help="print a JSON array")
    exporting = actions.add_parser("export", help="copy a cache's content to a directory or NAME.tar")
    exporting.add_argument("name", metavar="ID")
    exporting.add_argument("destination", metavar="DEST")
    importing = actions.add_parser("import", help="make a directory or tar archive the content of a cache")
    importing.add_argument("name", metavar="ID")
    importing.add_argument("source", metavar="SOURCE")
    importing.add_argument("--uid", type=int, default=0, help="as in the mount (default: 0)")
    importing.add_argument("--gid", type=int, default=0, help="as in the mount (default: 0)")
    importing.add_argument("--mode", default="755", help="as in the mount (default: 755)")
    clearing = actions.add_parser("clear", help="remove caches")
    clearing.add_argument("name", metavar="ID", nargs="*")
    clearing.add_argument("--all", action="store_true", help="every cache")


def run(options: argparse.Namespace) -> int:
    """Do it."""
    from boxwright.app import caches
    from boxwright.errors import UsageError
    from boxwright.ports import CacheWanted

    if options.action == "list":
        _list(caches.list_caches(os.environ), as_json=options.json)
    elif options.action == "export":
        caches.export_cache(os.environ, options.name, options.destination)
    elif options.action == "import":
        try:
            mode = int(options.mode, 8)
        except ValueError as error:
            raise UsageError("usage.mode", f"--mode {options.mode}: an octal number is expected") from error
        wanted = CacheWanted(options.name, mode=mode, uid=options.uid, gid=options.gid)
        caches.import_cache(os.environ, wanted, options.source)
    elif not options.name and not options.all:
        raise UsageError("usage.cache", "name the caches to clear, or give --all")
    else:
        count = caches.clear_caches(os.environ, tuple(options.name), everything=options.all)
        say(f"{count} caches removed")
    return 0


def _list(listed: list[ListedCache], *, as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps([cache._asdict() for cache in listed], indent=2))
        return
    from boxwright.cli.images import day
    from boxwright.cli.steptext import clean

    rows = [("ID", "KEY", "OWNER", "MODE", "SIZE", "USED")]
    rows += [
        (clean(it.name), it.key[:12], f"{it.uid}:{it.gid}", it.mode, human_size(it.size), day(it.used)) for it in listed
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
