"""Run more or fewer replicas of a stack's containers, until the next deploy."""

from __future__ import annotations

import argparse

from boxwright.cli.stackoptions import add_engine, meant
from boxwright.errors import UsageError

MOST = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `scale`."""
    from boxwright.cli.deploy import add_working

    parser.add_argument("--file", dest="stack", metavar="FILE", help="the definition (./autopilot.yaml)")
    add_engine(parser)
    add_working(parser)
    parser.add_argument("replicas", nargs="+", metavar="NAME=COUNT")


def run(options: argparse.Namespace) -> int:
    """Deploy the definition with these numbers."""
    from boxwright.cli.deploy import deploy
    from boxwright.frontends.package.problem import nearest

    found = meant(options.stack, options)
    if found.stack is None:
        raise UsageError("definition.not-found", "there is no definition here", hint="name it with --file")
    replicas: dict[str, int] = {}
    names = {it.name: it for it in found.stack.containers}
    for text in options.replicas:
        name, _, number = text.partition("=")
        if name not in names:
            raise UsageError("usage.scale", f"there is no container {name!r}", hint=nearest(name, names))
        if not number.isdecimal() or int(number) > MOST:
            raise UsageError("usage.scale", f"{text}: NAME=COUNT is expected", hint="such as web=3")
        if names[name].database is not None and int(number) > 1:
            raise UsageError("usage.scale", f"the database {name} can't have {number} replicas")
        replicas[name] = int(number)
    return deploy(found, found.stack, options, f"scale {' '.join(options.replicas)}", replicas)
