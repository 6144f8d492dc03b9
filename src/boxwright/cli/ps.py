"""List containers."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from boxwright.cli.console import complain, say

if TYPE_CHECKING:
    from boxwright.engines.records import Container


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `ps`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those that don't run")
    add("-q", "--quiet", action="store_true", help="print names alone")
    add("--json", action="store_true", help="print a JSON array")


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    from boxwright.app.containers import open_engine

    containers, damaged = open_engine(os.environ).records.survey()
    listed = [(container, container.is_running()) for container in containers]
    shown = [(container, runs) for container, runs in listed if runs or options.all]
    if options.json:
        import json

        say(json.dumps([_fields(container, runs=runs) for container, runs in shown], indent=2))
    elif options.quiet:
        for container, _ in shown:
            say(container.name)
    else:
        _table(shown)
    for error in damaged:
        complain(error)
    return 0


def _table(shown: list[tuple[Container, bool]]) -> None:
    rows = [("NAME", "IMAGE", "STATUS", "PORTS", "COMMAND")]
    for container, runs in shown:
        config = container.config
        ports = ", ".join(str(port) for port in config.ports) if runs else ""
        rows.append((config.name, config.image_name, status_text(container, runs=runs), ports, " ".join(config.argv)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        start = "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=False))
        say(f"{start}  {row[4][:60]}".rstrip().replace("\n", " "))


def status_text(container: Container, *, runs: bool) -> str:
    """Such as ``running 5 min`` or ``exited 1``."""
    if container.status is None:
        return "never started"
    if runs:
        return f"running {_duration(time.time() - container.status.started)}"
    code = container.exit_code()
    return "exited ?" if code is None else f"exited {code}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def _fields(container: Container, *, runs: bool) -> dict[str, object]:
    from boxwright.engines.records import as_fields

    status = container.status
    return {
        **as_fields(container),
        "status": "running" if runs else "exited" if status else "created",
        "pid": status.process.pid if status and runs else None,
        "started": status.started if status else None,
        "exit_code": None if runs else container.exit_code(),
    }
