"""Keep what runs equal to a stack: what died is started again, what is not well is restarted."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import add_stack, meant, opened

if TYPE_CHECKING:
    from boxwright.deploy.applying import Progress

UNIT = """\
[Unit]
Description=Boxwright watches the stack {stack}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={program} watch {stack} --engine {engine}
Environment=BOXWRIGHT_HOME={home}
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `watch`."""
    add_stack(parser)
    add = parser.add_argument
    add("--interval", type=float, default=2.0, metavar="SECONDS", help="how often it looks (2)")
    text = "after how many seconds of a member's silence its instances are started elsewhere (10)"
    add("--member-patience", type=float, default=10.0, metavar="SECONDS", help=text)
    add("--once", action="store_true", help="look once")
    add("--unit", action="store_true", help="print a systemd unit that does this")


def run(options: argparse.Namespace) -> int:
    """Look again and again, until interrupted."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.watching import Watcher
    from boxwright.store.home import default_root

    found = meant(options.stack, options)
    if options.unit:
        program = os.path.abspath(sys.argv[0]) if "/" in sys.argv[0] else "/usr/bin/env boxwright"
        home = default_root(dict(os.environ), os.geteuid())
        say(UNIT.format(stack=found.name, engine=found.engine, program=program, home=home).rstrip())
        return 0
    with open_store(os.environ) as store, opened(found, store) as engine:
        watcher = Watcher(engine, found.name, _tell, patience=options.member_patience)
        while True:
            watcher.look()
            if options.once:
                return 0
            time.sleep(options.interval)


def _tell(progress: Progress) -> None:
    said = progress.text.splitlines()[0] if progress.text else ""
    note(f"{progress.what} {progress.name}: {said}".rstrip(": "))
