"""List what the configured repositories have."""

from __future__ import annotations

import argparse
import json
import time

from boxwright.app.pulling import search
from boxwright.cli.console import note, say, warn
from boxwright.cli.sharingoptions import add_from, repositories
from boxwright.cli.steptext import clean


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `search`."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="names must hold all of them")
    add_from(parser, "--from", "only this repository; repeatable")
    parser.add_argument("--json", action="store_true", help="as a JSON array")


def run(options: argparse.Namespace) -> int:
    """A line for each package and each name of an image."""
    with repositories(options.repositories) as (_, found):
        hits = search(found, options.words, warn)
    if options.json:
        say(json.dumps([hit._asdict() for hit in hits], indent=1))
        return 0
    for hit in hits:
        day = time.strftime("%Y-%m-%d", time.gmtime(hit.time))
        say(f"{hit.kind:<8}{clean(hit.name):<40} {hit.identity[7:19]}  {day}  {hit.platform or '-':<12} {hit.origin}")
    if not hits:
        note("nothing was found")
    return 0
