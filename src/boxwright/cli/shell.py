"""Open a shell in a recorded state, such as the one before a step that failed. What is done there is thrown away."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.app.opening import open_store
from boxwright.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `shell`."""
    add = parser.add_argument
    add("--state", required=True, metavar="KEY", help="the state's key, as a failed build prints it")
    add("-w", "--workdir", default="/", help="the working directory")
    add("-u", "--user", default="", help="the user, as USER takes it")
    add("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    add("--network", default="default", choices=("none", "default", "host"))
    add("--security", default="sandbox", choices=("sandbox", "insecure"))
    add("command", nargs="*", help="what to run instead of a shell (after --)")


def run(options: argparse.Namespace) -> int:
    """Open it; its exit status is ours."""
    from boxwright.app.sandboxes import LateSandbox
    from boxwright.app.shells import ShellRequest, find_state, open_shell

    env = tuple((name, value) for name, _, value in (item.partition("=") for item in options.env))
    if any("=" not in item for item in options.env):
        raise UsageError("usage.pair", "--env: NAME=VALUE is expected")
    with open_store(os.environ) as store:
        request = ShellRequest(
            find_state(store, options.state),
            tuple(options.command),
            env,
            options.workdir,
            options.user,
            options.network,
            options.security,
        )
        return open_shell(store, request, LateSandbox(store.home.cache), terminal=sys.stdin.isatty())
