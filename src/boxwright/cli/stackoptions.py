"""What the commands for stacks have in common: which stack is meant, and on which engine it is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.deployment import Instance
    from boxwright.model.stack import Stack
    from boxwright.store.store import Store

ENGINES = ("native", "podman", "lxd", "docker", "lxc")
PATIENCE = 30.0
"""Seconds for which a command waits while another one, as `watch`, changes the same stack."""


class Meant(NamedTuple):
    """A stack: its name and its engine, and its definition where there is one."""

    name: str
    engine: str
    stack: Stack | None
    remote: str = ""


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--engine` and `--remote`, which win over the definition's."""
    parser.add_argument("--engine", choices=ENGINES, help="what runs it; default: as the definition says, else native")
    parser.add_argument("--remote", default="", help="the LXD remote")


def add_stack(parser: argparse.ArgumentParser, *, nargs: str = "?") -> None:
    """The stack as an argument."""
    parser.add_argument("stack", nargs=nargs, metavar="STACK", help="its name, or its definition (./autopilot.yaml)")
    add_engine(parser)


def meant(given: str | None, options: argparse.Namespace) -> Meant:
    """The stack of a name or a file; without either that of the present directory.

    A name is looked for in the present directory's definition first: that one says on which engine it is.
    """
    from boxwright.app.stacks.definition import NAMES, find_stack, load_stack

    def load(file: str) -> Stack:
        profiles = getattr(options, "profile", ())
        return load_stack(file, os.environ, profiles, options.engine or "native")

    stack: Stack | None = None
    if given is None or os.path.exists(given) or given.endswith((".yaml", ".yml")):
        stack = load(find_stack(given))
    elif any(os.path.isfile(name) for name in NAMES):
        found = load(find_stack(None))
        stack = found if found.name == given else None
    if stack is None:
        return Meant(str(given), options.engine or "native", None, options.remote)
    engine = options.engine or stack.cluster.engine
    return Meant(stack.name, engine, stack, options.remote or stack.cluster.remote)


@contextmanager
def opened(found: Meant, store: Store) -> Iterator[DeployEngine]:
    """The engine of a stack."""
    from boxwright.app.stacks.engines import open_deploy_engine

    with open_deploy_engine(found.engine, store, remote=found.remote) as engine:
        yield engine


def split_member(text: str) -> tuple[str, str]:
    """``STACK/NAME`` in two; the stack is empty where there is no slash."""
    stack, slash, name = text.partition("/")
    return (stack, name) if slash else ("", text)


def members(engine: DeployEngine, stack: str, name: str) -> list[Instance]:
    """The instances that a name stands for: a container's, or one (``web-2``); without a name all.

    Raises BoxwrightError `deploy.unknown-member`.
    """
    from boxwright.errors import BoxwrightError
    from boxwright.frontends.package.problem import nearest

    found = sorted(engine.observe(stack).instances, key=lambda it: (it.container, it.number, it.generation))
    chosen = [it for it in found if not name or name in (it.container, it.logical, it.name)]
    if not chosen:
        known = {it.container for it in found} | {it.logical for it in found}
        what = f"no instance {name}" if name else "no instance"
        raise BoxwrightError("deploy.unknown-member", f"the stack {stack} has {what}", hint=nearest(name, known))
    return chosen
