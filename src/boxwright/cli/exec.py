"""Run a command in a running container."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.cli.run import environment
from boxwright.cli.stackoptions import add_engine, meant, members, opened, refuse_engine, split_member


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `exec`."""
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="give it standard input")
    add("-t", "--tty", action="store_true", help="give it a terminal where standard input is one")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    add("-w", "--workdir", default="", help="the working directory; default: the container's")
    add("-u", "--user", help="the user; default: the container's")
    add_engine(parser)
    add("name", metavar="CONTAINER|STACK/NAME", help="a container, or an instance of a stack, such as shop/web-2")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND")


def run(options: argparse.Namespace) -> int:
    """Run it; its exit status is ours."""
    from boxwright.app.entering import execute
    from boxwright.errors import UsageError

    command = tuple(options.command[1:] if options.command[:1] == ["--"] else options.command)
    if not command:
        raise UsageError("usage.command", "no command is given", hint="boxwright exec CONTAINER COMMAND")
    if "/" in options.name:
        return _in_stack(options, command)
    refuse_engine(options, "containers of 'boxwright run'")
    return execute(
        os.environ,
        options.name,
        command,
        env=environment(options.env),
        cwd=options.workdir,
        user=options.user,
        terminal=options.tty and sys.stdin.isatty(),
        stdin=options.interactive,
    )


def _in_stack(options: argparse.Namespace, command: tuple[str, ...]) -> int:
    """In the first instance of that name that runs."""
    from boxwright.app.opening import open_store
    from boxwright.errors import UsageError
    from boxwright.model.deployment import with_secrets

    if options.env or options.workdir or options.user is not None:
        hint = "say it in the command, such as env NAME=VALUE COMMAND"
        raise UsageError("usage.exec", "-e, -w and -u are for containers that are no stack's", hint=hint)
    stack, name = split_member(options.name)
    if not name:
        hint = f"boxwright exec {options.name}NAME COMMAND"
        raise UsageError("usage.exec", f"{options.name} names no container", hint=hint)
    found = meant(stack or None, options)
    terminal = options.tty and sys.stdin.isatty()
    with open_store(os.environ) as store, opened(found, store) as engine:
        chosen = members(engine, found.name, name)
        running = next((it for it in chosen if it.state == "running"), chosen[0])
        if running.spec is not None:
            command = with_secrets(running.spec, command)
        return engine.attach(running.name, command, terminal=terminal, stdin=options.interactive)
