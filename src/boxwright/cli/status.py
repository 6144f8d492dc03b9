"""Show the instances of a stack, whether they are well, and where they are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from boxwright.cli.console import say
from boxwright.cli.stackoptions import add_stack, meant, opened

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.deployment import Instance

HEADINGS = ("NAME", "STATE", "HEALTH", "IMAGE", "ADDRESS", "PORTS", "SINCE")
CLEAR = "\x1b[H\x1b[2J"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `status`."""
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("-w", "--watch", action="store_true", help="go on, each second, until interrupted")


def run(options: argparse.Namespace) -> int:
    """Print it; the exit status is 1 where something is not well."""
    from boxwright.app.opening import open_store

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        while True:
            rows, well = _rows(engine, found.name)
            if options.json:
                _print_json(engine, found.name, rows)
            else:
                if options.watch and sys.stdout.isatty():
                    sys.stdout.write(CLEAR)
                _print(rows)
            if not options.watch:
                return 0 if well else 1
            sys.stdout.flush()
            time.sleep(1)


def _rows(engine: DeployEngine, stack: str) -> tuple[list[tuple[Instance, str]], bool]:
    """The instances with their health."""
    instances = sorted(engine.observe(stack).instances, key=lambda it: (it.container, it.number, it.generation))
    with ThreadPoolExecutor(8) as pool:
        health = list(pool.map(lambda it: _health(engine, it), instances))
    return list(zip(instances, health, strict=True)), all(it in ("well", "-", "done") for it in health)


def _health(engine: DeployEngine, instance: Instance) -> str:
    from boxwright.deploy.health import ask

    if instance.state != "running":
        done = instance.spec is not None and instance.spec.restart == "no" and instance.exit_code == 0
        return "unknown" if instance.state == "absent" else "done" if done else "stopped"
    if instance.spec is None or instance.spec.health.kind == "none":
        return "-"
    return "not well" if ask(engine, instance.name, instance.spec) else "well"


def _print_json(engine: DeployEngine, stack: str, rows: list[tuple[Instance, str]]) -> None:
    from boxwright.deploy.history import read_releases

    releases = read_releases(engine, stack)
    fields = [
        {
            "name": it.name,
            "container": it.container,
            "number": it.number,
            "generation": it.generation,
            "state": it.state,
            "health": health,
            "exit_code": it.exit_code,
            "image": it.spec.image if it.spec else None,
            "addresses": dict(it.addresses),
            "member": it.member,
            "ports": list(it.ports),
        }
        for it, health in rows
    ]
    release = releases[-1].number if releases else None
    say(json.dumps({"stack": stack, "engine": engine.name, "release": release, "instances": fields}, indent=2))


def _print(rows: list[tuple[Instance, str]]) -> None:
    table = [HEADINGS]
    for it, health in rows:
        image = it.spec.image_name.removesuffix(":latest") if it.spec else "?"
        address = ", ".join(dict.fromkeys(address for _, address in it.addresses))
        since = _ago(it.started) if it.started and it.state == "running" else ""
        where = f"{address} ({it.member})" if it.member else address
        table.append((it.logical, it.state, health, image, where, ", ".join(it.ports), since))
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    for row in table:
        say("  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip())


def _ago(started: float) -> str:
    seconds = max(0, int(time.time() - started))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
