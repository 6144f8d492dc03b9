"""Open a shell in a recorded state, or in a package's sandbox. What is done there is thrown away."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.app.opening import open_store
from boxwright.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `shell`."""
    add = parser.add_argument
    add("--state", metavar="KEY", help="the state's key, as a failed build prints it")
    add("--before", default="", metavar="PHASE", help="of a package: before this phase")
    add("--after", default="", metavar="PHASE", help="of a package: after this phase, also when it fails")
    add("-w", "--workdir", default="/", help="the working directory")
    add("-u", "--user", default="", help="the user, as USER takes it")
    add("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    add("--network", default="default", choices=("none", "default", "host"))
    add("--security", default="sandbox", choices=("sandbox", "insecure"))
    add("command", nargs="*", metavar="PKG | -- COMMAND", help="a package; with --state what to run instead of a shell")


def run(options: argparse.Namespace) -> int:
    """Open it; its exit status is ours."""
    if options.state is None:
        return _package(options)
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


def _package(options: argparse.Namespace) -> int:
    from boxwright.app.packageshell import find_package, open_package_shell
    from boxwright.cli.packagebuild import write_error
    from boxwright.cli.packageprogress import package_display

    if len(options.command) != 1 or (options.before and options.after):
        raise UsageError(
            "usage.shell", "--state KEY or one package is expected", hint="boxwright shell PKG --before build"
        )
    with open_store(os.environ) as store:
        request = find_package(options.command[0], os.environ, store)
        return open_package_shell(
            store,
            request,
            os.environ,
            (options.before, options.after),
            lambda build: package_display("auto", build, {}, quiet=False).emit,
            write_error,
        )
