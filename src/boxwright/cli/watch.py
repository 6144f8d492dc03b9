"""Keep what runs equal to a stack: what died is started again, what is not well is restarted."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
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
ExecStart={program} watch {stack} --engine {engine}{more}
Environment=BOXWRIGHT_HOME={home}
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""
TIMES: dict[str, float | str] = {"member_patience": 10.0, "stop_after": 20.0, "take_over_after": 30.0, "fence": ""}
"""Options that a unit is given too, and what they are where nobody says anything."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `watch`."""
    add_stack(parser)
    add = parser.add_argument
    add("--interval", type=float, default=2.0, metavar="SECONDS", help="how often it looks (2)")
    text = "after how many seconds of a member's silence its instances are started elsewhere (10)"
    add("--member-patience", type=float, default=TIMES["member_patience"], metavar="SECONDS", help=text)
    text = "after how many seconds without a quorum this member stops instances that others may start from copies (20)"
    add("--stop-after", type=float, default=TIMES["stop_after"], metavar="SECONDS", help=text)
    text = "after how many seconds of a member's silence copies of its volumes take their place; more than that (30)"
    add("--take-over-after", type=float, default=TIMES["take_over_after"], metavar="SECONDS", help=text)
    text = "turns a silent member off, which BOXWRIGHT_MEMBER names; where it ends with 0, nobody waits any longer"
    add("--fence", default="", metavar="COMMAND", help=text)
    add("--once", action="store_true", help="look once, and make the copies and snapshots that are due")
    add("--unit", action="store_true", help="print a systemd unit that does this")


def run(options: argparse.Namespace) -> int:
    """Look again and again, until interrupted."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.upkeep import Upkeep
    from boxwright.app.stacks.watching import Watcher
    from boxwright.deploy.replicas import Patience, check_patience
    from boxwright.store.home import default_root

    found = meant(options.stack, options)
    patience = check_patience(Patience(options.member_patience, options.stop_after, options.take_over_after))
    if options.unit:
        program = os.path.abspath(sys.argv[0]) if "/" in sys.argv[0] else "/usr/bin/env boxwright"
        home = default_root(dict(os.environ), os.geteuid())
        more = "".join(
            f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
            for name, usual in TIMES.items()
            if (value := getattr(options, name)) != usual
        )
        more = more.replace("%", "%%").replace("$", "$$")  # systemd's own, systemd.service(5)
        say(UNIT.format(stack=found.name, engine=found.engine, more=more, program=program, home=home).rstrip())
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end in good order: others are told
    with (
        open_store(os.environ) as store,
        opened(found, store) as engine,
        engine.guard(found.name, patience.stop, patience.grace, _tell_stopped) as note_stake,
    ):
        fence = partial(_fence, options.fence) if options.fence else None
        watcher = Watcher(engine, found.name, _tell, patience=patience, fence=fence, note=note_stake)
        upkeep = Upkeep(engine, found.name, _tell)
        if not options.once:
            watcher.keep_probing()
        while True:
            watcher.look()
            if options.once:
                upkeep.look()
                return 0
            upkeep.begin()
            time.sleep(options.interval)


def _fence(command: str, member: str) -> bool:
    """Whether it has turned the member off."""
    done = subprocess.run(["/bin/sh", "-c", command], env={**os.environ, "BOXWRIGHT_MEMBER": member}, check=False)
    if done.returncode:
        note(f"fence {member}: the command ended with status {done.returncode}")
    return not done.returncode


def _tell_stopped(instance: str, text: str) -> None:
    note(f"stop {instance}: {text}")


def _tell(progress: Progress) -> None:
    said = progress.text.splitlines()[0] if progress.text else ""
    note(f"{progress.what} {progress.name}: {said}".rstrip(": "))
