"""Keep what runs equal to a stack: what died is started again, what is not well is restarted."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from boxwright.cli.arguments import seconds
from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import add_stack, meant, opened
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.cli.stackoptions import Meant
    from boxwright.deploy.applying import Progress

UNIT = """\
[Unit]
Description=Boxwright watches the stack {stack}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={command}
{environment}
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""
USUAL: dict[str, float | str] = {
    "remote": "",
    "interval": 2.0,
    "member_patience": 10.0,
    "stop_after": 20.0,
    "take_over_after": 30.0,
    "fence": "",
}
"""Options that a unit is given too, and what they are where nobody says anything."""
VARIABLES = (
    "BOXWRIGHT_HOME", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT",
    "DOCKER_HOST", "HOME", "INCUS_CONF", "INCUS_DIR", "INCUS_SOCKET", "LXD_CONF", "LXD_DIR", "LXD_SOCKET", "PATH",
    "XDG_CONFIG_HOME",
)  # fmt: skip
"""By these the store, the engines and their remotes are found, which a unit must find too."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `watch`."""
    add_stack(parser)
    add = parser.add_argument
    for option, text in (
        ("--interval", "how often it looks (2)"),
        ("--member-patience", "after how many seconds of a member's silence its instances are started elsewhere (10)"),
        (
            "--stop-after",
            "after how many seconds without a quorum this member stops what others may start from copies (20)",
        ),
        (
            "--take-over-after",
            "after how many seconds of a member's silence copies of its volumes take their place; more than that (30)",
        ),
    ):
        usual = USUAL[option.strip("-").replace("-", "_")]
        add(option, type=seconds(option), default=usual, metavar="SECONDS", help=text)
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

    found = meant(options.stack, options)
    patience = check_patience(Patience(options.member_patience, options.stop_after, options.take_over_after))
    if options.unit:
        if options.once:
            raise UsageError("usage.watch", "a unit looks again and again: --once and --unit don't go together")
        say(_unit(found, options))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end in good order: others are told
    with (
        open_store(os.environ) as store,
        opened(found, store, known=options.once) as engine,
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


def _unit(found: Meant, options: argparse.Namespace) -> str:
    """A systemd unit that does what is asked here, with the same store and engine."""
    from boxwright.store.home import default_root

    words = [*_program(), "watch", found.name, "--engine", found.engine]
    given = {**vars(options), "remote": found.remote}
    for name, usual in USUAL.items():
        if given[name] != usual:
            words.append(f"--{name.replace('_', '-')}={given[name]}")
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    variables["BOXWRIGHT_HOME"] = default_root(dict(os.environ), os.geteuid())
    environment = "\n".join(f"Environment={_quoted(f'{name}={it}')}" for name, it in sorted(variables.items()))
    command = " ".join((_quoted(words[0]), *(_quoted(it).replace("$", "$$") for it in words[1:])))
    return UNIT.format(stack=found.name, command=command, environment=environment).rstrip()


def _program() -> list[str]:
    """How it was called, without the search path; from a checkout by what starts it there."""
    checkout = os.path.abspath(f"{os.path.dirname(__file__)}/../../../boxwright")
    for path in (sys.argv[0] if "/" in sys.argv[0] else "", checkout, shutil.which("boxwright")):
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            return [os.path.abspath(path)]
    return [sys.executable, "-m", "boxwright.cli.main"]


def _quoted(word: str) -> str:
    """As systemd reads words (systemd.syntax(7)), with its specifiers as they are written (systemd.unit(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    escaped = escaped.replace("%", "%%")
    return escaped if escaped == word and word and not set(word) & set(" \t'") else f'"{escaped}"'


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
