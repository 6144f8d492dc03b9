"""Run more or fewer replicas of a stack's containers, until the next deploy. Nothing else of it is changed."""

from __future__ import annotations

import argparse
import os
import time

from boxwright.cli.stackoptions import add_engine, meant, opened
from boxwright.errors import UsageError

MOST = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `scale`."""
    from boxwright.cli.deploy import add_working

    text = "its name, or its definition (./autopilot.yaml)"
    parser.add_argument("--stack", "--file", dest="stack", metavar="STACK", help=text)
    add_engine(parser)
    add_working(parser)
    parser.add_argument("replicas", nargs="+", metavar="NAME=COUNT")


def run(options: argparse.Namespace) -> int:
    """Make what runs what the last release was made from, with these numbers."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.contents import StackContents
    from boxwright.app.stacks.deployment import SETTLED, prepare_deployment
    from boxwright.app.stacks.images import balancer_build
    from boxwright.app.stacks.scaling import check_replicas, lacks_balancer, released_basis, scaled_stack
    from boxwright.cli.deploy import changing, work
    from boxwright.cli.stackbuild import build_images

    began = time.monotonic()
    replicas = _numbers(options.replicas)
    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store, look=True) as engine:
        basis = released_basis(engine, found.name)
        check_replicas(basis, replicas)
    if lacks_balancer(basis, replicas):
        build_images([balancer_build()], set(), quiet=True)
    with (
        open_store(os.environ) as store,
        opened(found, store) as engine,
        changing(engine, found.name, options),
    ):
        basis = released_basis(engine, found.name)
        check_replicas(basis, replicas)
        desired, images, text = scaled_stack(engine, basis, replicas, store)
        contents = StackContents(engine, found.name, {})
        prepared = prepare_deployment(engine, desired, contents, images, patience=SETTLED, basis=text)
        return work(engine, prepared, store, f"scale {' '.join(options.replicas)}", options, began)


def _numbers(words: list[str]) -> dict[str, int]:
    """``NAME=COUNT``, each name once. Raises UsageError `usage.scale`."""
    found: dict[str, int] = {}
    for text in words:
        name, _, number = text.partition("=")
        if not name or not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) > MOST:
            hint = f"such as web=3, and {MOST} at most"
            raise UsageError("usage.scale", f"{text}: NAME=COUNT is expected", hint=hint)
        if name in found:
            raise UsageError("usage.scale", f"{name} is there twice")
        found[name] = int(number)
    return found
