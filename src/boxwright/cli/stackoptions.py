"""What the commands for stacks have in common: which stack is meant, and on which engine it is."""

from __future__ import annotations

import argparse
import os
import sys
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

    A name is looked for in the present directory's definitions first: such a one says on which engine it is.

    Raises UsageError `usage.stack` for what can be no name, `usage.remote` for a remote of an engine that has none.
    """
    from boxwright.app.stacks.definition import find_stack, load_stack, stack_files
    from boxwright.errors import UsageError
    from boxwright.model.stack import NAME

    def load(file: str) -> Stack:
        profiles = getattr(options, "profile", ())
        return load_stack(file, os.environ, profiles, options.engine or "native")

    stack: Stack | None = None
    if given is None or (given and os.path.exists(given)) or given.endswith((".yaml", ".yml")):
        stack = load(find_stack(given))
    elif not NAME.fullmatch(given):
        raise UsageError("usage.stack", f"{given!r} is no file, and can't be a stack's name", hint="such as shop")
    else:
        here = [it for it in map(load, stack_files()) if it.name == given]
        stack = load(find_stack(None)) if len(here) > 1 else next(iter(here), None)
    engine = options.engine or (stack.cluster.engine if stack else "native")
    if options.remote and engine != "lxd":
        raise UsageError("usage.remote", f"--remote is for LXD; {engine} has none", hint="--engine lxd")
    remote = options.remote or (stack.cluster.remote if stack and engine == "lxd" else "")
    return Meant(stack.name if stack else str(given), engine, stack, remote)


@contextmanager
def opened(found: Meant, store: Store, *, known: bool = True, look: bool = False) -> Iterator[DeployEngine]:
    """The engine of a stack, which it must know already. Raises BoxwrightError `deploy.unknown-stack`.

    Who only looks stays what it is: images can be built after that.
    """
    from boxwright.app.stacks.engines import open_deploy_engine
    from boxwright.app.stacks.finding import is_there, unknown_stack

    with open_deploy_engine(found.engine, store, remote=found.remote, look=look) as engine:
        if known and not is_there(engine, found.name):
            raise unknown_stack(engine, found.name, store)
        yield engine


def refuse_engine(options: argparse.Namespace, what: str) -> None:
    """Where no stack is meant. Raises UsageError `usage.engine`."""
    from boxwright.errors import UsageError

    if options.engine or options.remote:
        raise UsageError("usage.engine", f"--engine and --remote are for stacks, not for {what}")


def agree(what: str, *, yes: bool, left: str = "nothing was changed") -> None:
    """Ask whether to do something, unless that was said. Raises UsageError `usage.confirm`, also without a terminal."""
    from boxwright.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("usage.confirm", f"this would {what}", hint="say --yes")
    sys.stderr.write(f"{what}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("usage.confirm", left)


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
        hint = f"all of them are {stack}/" if name == stack else nearest(name, known)
        raise BoxwrightError("deploy.unknown-member", f"the stack {stack} has {what}", hint=hint)
    return chosen
