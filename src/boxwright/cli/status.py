"""Show the instances of a stack, whether they are well, and where they are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import add_stack, meant, opened

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.deploy.history import Release
    from boxwright.model.deployment import Instance, Observed
    from boxwright.model.volumes import VolumeState

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
    from boxwright.app.stacks.finding import is_there, unknown_stack
    from boxwright.deploy.applying import DEPLOYING
    from boxwright.deploy.history import read_releases

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store, known=False) as engine:
        while True:
            observed = engine.observe(found.name)
            releases = read_releases(engine, found.name)
            unfinished = (engine.read_document(found.name, DEPLOYING) or b"").decode(errors="replace")
            rows, well = _rows(engine, observed, releases)
            known = rows or options.watch or is_there(engine, found.name)
            if options.json:
                _print_json(engine, found.name, rows, observed.states, releases, unfinished)
            elif known:
                if options.watch and sys.stdout.isatty():
                    sys.stdout.write(CLEAR)
                _print(rows)
                _print_volumes(observed.states)
                if unfinished:
                    note(f"under way, or interrupted: {unfinished}")
                elif not (rows or releases):
                    note(f"nothing of {found.name} is deployed")
            if not known:
                raise unknown_stack(engine, found.name, store)
            if not options.watch:
                return 0 if well and (rows or releases) else 1
            sys.stdout.flush()
            time.sleep(1)


def missing(observed: Observed, releases: tuple[Release, ...]) -> list[Instance]:
    """What should be there by the last release, and is not. A load balancer is wanted for each member that is there."""
    from boxwright.deploy.desired import BALANCER
    from boxwright.model.deployment import LOST, ONLINE, Instance

    known = {it.logical for it in observed.instances}
    wanted = releases[-1].desired if releases else None
    found = [it for it in (wanted.instances if wanted else ()) if it.logical not in known]
    if observed.members:
        free = sum(it.state == ONLINE for it in observed.members)
        free -= sum(it.container == BALANCER for it in observed.instances)
        balancers = [it for it in found if it.container == BALANCER]
        found = [it for it in found if it not in balancers[max(0, free) :]]
    stack = wanted.stack if wanted else ""
    return [Instance(f"{stack}-{it.logical}", it.container, it.number, 0, "", LOST, it) for it in found]


def _rows(
    engine: DeployEngine, observed: Observed, releases: tuple[Release, ...]
) -> tuple[list[tuple[Instance, str]], bool]:
    """The instances with their health."""
    found = (*observed.instances, *missing(observed, releases))
    instances = sorted(found, key=lambda it: (it.container, it.number, it.generation))
    with ThreadPoolExecutor(8) as pool:
        health = list(pool.map(lambda it: _health(engine, it), instances))
    return list(zip(instances, health, strict=True)), all(it in ("well", "-", "done") for it in health)


def _health(engine: DeployEngine, instance: Instance) -> str:
    from boxwright.deploy.health import ask
    from boxwright.model.deployment import is_done

    if instance.state == "lost":
        return "missing"
    if instance.state != "running":
        done = is_done(instance.spec, instance.exit_code)
        return "unknown" if instance.state == "absent" else "done" if done else "stopped"
    if instance.spec is None or instance.spec.health.kind == "none":
        return "-"
    return "not well" if ask(engine, instance.name, instance.spec) else "well"


def _print_json(
    engine: DeployEngine,
    stack: str,
    rows: list[tuple[Instance, str]],
    states: tuple[VolumeState, ...],
    releases: tuple[Release, ...],
    unfinished: str,
) -> None:
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
    whole = {
        "stack": stack,
        "engine": engine.name,
        "release": release,
        "unfinished": unfinished or None,
        "instances": fields,
        "volumes": [volume_fields(it) for it in states],
    }
    say(json.dumps(whole, indent=2))


def volume_fields(state: VolumeState) -> dict[str, object]:
    """A volume as JSON has it; ages in seconds."""
    now = time.time()
    copies = [{"member": it.member, "age": round(now - it.time, 1)} for it in state.copies if it.member != state.member]
    started = {"time": state.since, "lost": round(state.since - state.copied, 1)} if state.copied else None
    return {
        "name": state.name,
        "member": state.member,
        "generation": state.generation,
        "copies": copies,
        "started_from_copy": started,
    }


def _print_volumes(states: tuple[VolumeState, ...]) -> None:
    """Those with copies, or that were started from one."""
    for it in states:
        if it.copies or it.copied:
            say(f"volume {describe_volume(it)}")


def describe_volume(state: VolumeState) -> str:
    """A volume in a line: where it is, how old its copies are, and which copy it was started from."""
    said = [f"{state.name} on {state.member}" if state.member else state.name]
    others = [it for it in state.copies if it.member != state.member]
    copies = ", ".join(f"{_ago(it.time)} old on {it.member}" for it in others)
    if copies:
        said.append(f"copies: {copies}")
    if state.copied:
        age = _long(state.since - state.copied)
        said.append(f"{_ago(state.since)} ago a copy took its place that was {age} old then")
    return "; ".join(said)


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
    return _long(time.time() - started)


def _long(duration: float) -> str:
    seconds = max(0, int(duration))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
