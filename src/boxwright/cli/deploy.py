"""Deploy a stack: build its images, show the plan, apply it, wait until all is well."""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from boxwright.cli.arguments import whole
from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import PATIENCE, add_stack, meant, opened
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from boxwright.app.stacks.deployment import Prepared
    from boxwright.deploy.applying import Progress
    from boxwright.deploy.engine import DeployEngine
    from boxwright.deploy.planning import DeployPlan
    from boxwright.store.store import Store

MOST_JOBS = 1000
SIGNS = {"create": "+", "start": ">", "replace": "~", "update": "~", "move": "~", "remove": "-", "wait": "."}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `deploy`."""
    add_stack(parser)
    add_working(parser)
    parser.add_argument(
        "--rotate", action="append", default=[], metavar="NAME", help="make a database's password, or a secret, anew"
    )
    parser.add_argument("--profile", action="append", default=[], help="a profile of a Compose file; repeatable")


def add_working(parser: argparse.ArgumentParser) -> None:
    """What all commands take that change a stack by a plan."""
    add = parser.add_argument
    add("--plan", action="store_true", help="show what would be done, and do nothing but build")
    add("--json", action="store_true", help="the plan, or the result, as JSON")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    text = "how many instances are worked on at a time (8)"
    add("-j", "--jobs", type=whole("-j", 1, MOST_JOBS), default=8, metavar="N", help=text)


def run(options: argparse.Namespace) -> int:
    """Build, plan and apply it."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.deployment import (
        SETTLED,
        check_prepared,
        completed_stack,
        desired_stack,
        prepare_deployment,
    )
    from boxwright.app.stacks.images import planned_builds, wants_balancer
    from boxwright.cli.stackbuild import build_images

    began = time.monotonic()
    found = meant(options.stack, options)
    stack = found.stack
    if stack is None:
        hint = "name its file, or go to its directory"
        raise UsageError("definition.not-found", f"there is no definition of {found.name} here", hint=hint)
    for text in () if options.quiet else stack.notes:
        note(f"note: {text}")
    built: set[str] = set()
    balanced = wants_balancer(stack, {})
    build_images(planned_builds(stack, balanced=balanced), built, quiet=True)
    with open_store(os.environ) as store:
        completed = completed_stack(stack, store)
    build_images(planned_builds(completed[0], balanced=balanced), built, quiet=True)
    with (
        open_store(os.environ) as store,
        opened(found, store, known=False) as engine,
        changing(engine, stack.name, options),
    ):
        desired, contents, images, basis = desired_stack(completed, store, engine, os.environ, {}, options.rotate)
        prepared = prepare_deployment(engine, desired, contents, images, patience=SETTLED, basis=basis)
        return work(engine, check_prepared(prepared, completed[0]), store, "deploy", options, began)


def changing(engine: DeployEngine, stack: str, options: argparse.Namespace) -> AbstractContextManager[None]:
    """Held while a stack is changed. Who only looks makes nothing in the engine, and waits for nobody."""
    return nullcontext() if options.plan else engine.lock(stack, PATIENCE)


def work(
    engine: DeployEngine, prepared: Prepared, store: Store, reason: str, options: argparse.Namespace, began: float
) -> int:
    """Show what is planned, apply it unless only the plan is wanted, and say what became of it."""
    from boxwright.app.stacks.deployment import carry_out
    from boxwright.app.stacks.destroying import is_being_destroyed

    stack = prepared.desired.stack
    quiet = options.quiet or options.json
    for text in () if quiet else prepared.notes:
        note(f"note: {text}")
    if prepared.unfinished and not quiet and is_being_destroyed(engine, stack):
        note(f"note: removing {stack} did not come to its end; it is made again")
    if options.plan:
        show_plan(prepared.plan, as_json=options.json)
        return 0
    if not quiet:
        show_plan(prepared.plan, as_json=False, to_person=True)
    release = carry_out(engine, prepared, store, reason, lambda it: tell(it, quiet=quiet), jobs=options.jobs)
    seconds = time.monotonic() - began
    if options.json:
        say(json.dumps({"stack": stack, "release": release and release.number, "seconds": round(seconds, 3)}))
    elif not options.quiet:
        say(f"{stack}: release {release.number}, {seconds:.2f} s" if release else f"{stack}: nothing to do")
    return 0


def plan_fields(plan: DeployPlan) -> list[dict[str, object]]:
    """A plan as JSON has it."""
    return [
        {
            "action": it.action,
            "kind": it.kind,
            "name": it.name,
            "reason": it.reason,
            "member": it.member,
            "removes": [old.name for old in it.old],
        }
        for it in plan.changes
    ]


def show_plan(plan: DeployPlan, *, as_json: bool, to_person: bool = False) -> None:
    """The changes, each with its reason."""
    if as_json:
        say(json.dumps(plan_fields(plan), indent=2))
        return
    write = note if to_person else say
    if not plan.work and not to_person:
        write("nothing to do")
    for it in (*plan.work, *plan.of("instance", "wait")):
        kind = "" if it.kind == "instance" else f"{it.kind} "
        where = f" (on {it.member})" if it.member else ""
        write(f"{SIGNS[it.action]} {it.action} {kind}{it.name}: {it.reason}{where}")


def tell(progress: Progress, *, quiet: bool) -> None:
    """A line for something that was done."""
    if quiet:
        return
    if progress.what in ("failed", "rollback"):
        note(f"{progress.what} {progress.name}: {progress.text.splitlines()[0]}")
    else:
        kind = "" if progress.kind == "instance" else f"{progress.kind} "
        note(f"done: {progress.what} {kind}{progress.name}  {progress.seconds:.2f} s")
