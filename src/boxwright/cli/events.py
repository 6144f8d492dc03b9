"""Show what happened to a stack, and its releases."""

from __future__ import annotations

import argparse
import json
import os
import time

from boxwright.cli.console import say
from boxwright.cli.stackoptions import add_stack, meant, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `events`."""
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Print them, the oldest first."""
    from boxwright.app.opening import open_store
    from boxwright.deploy.history import read_events

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        for event in read_events(engine, found.name):
            if options.json:
                say(json.dumps(event._asdict()))
            else:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
                said = event.text.splitlines()[0] if event.text else ""
                say(f"{when}  {event.what} {event.name}  {said}".rstrip())
    return 0
