"""Run a command in a running container."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.cli.run import environment


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `exec`."""
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="give it standard input")
    add("-t", "--tty", action="store_true", help="give it a terminal where standard input is one")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    add("-w", "--workdir", default="", help="the working directory; default: the container's")
    add("-u", "--user", help="the user; default: the container's")
    add("name", metavar="CONTAINER")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND")


def run(options: argparse.Namespace) -> int:
    """Run it; its exit status is ours."""
    from boxwright.app.entering import execute
    from boxwright.errors import UsageError

    command = tuple(options.command[1:] if options.command[:1] == ["--"] else options.command)
    if not command:
        raise UsageError("usage.command", "no command is given", hint="boxwright exec CONTAINER COMMAND")
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
