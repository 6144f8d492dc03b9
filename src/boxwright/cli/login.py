"""Log in to a registry: skopeo asks it, and keeps user and password where podman and skopeo find them too."""

from __future__ import annotations

import argparse
import getpass
import os
import subprocess
import sys

from boxwright.cli.console import say
from boxwright.errors import MachineError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `login`."""
    add = parser.add_argument
    add("registry", metavar="REGISTRY", help="HOST[:PORT]")
    add("-u", "--username", default="", metavar="USER")
    add("--password-stdin", action="store_true", help="read the password from standard input")
    add("--tls-verify", choices=("true", "false"), default="true", metavar="BOOL")
    add("--authfile", default="", metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Log in."""
    from boxwright.repositories.registry.failures import RegistryError
    from boxwright.repositories.registry.hosts import DOCKER
    from boxwright.repositories.registry.transport import is_loopback

    if not options.username:
        if not sys.stdin.isatty():
            raise UsageError("usage.login", "a user is needed", hint="-u USER --password-stdin")
        options.username = input("User: ")
    if options.password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif sys.stdin.isatty():
        password = getpass.getpass()
    else:
        raise UsageError("usage.login", "there is no terminal to ask for a password", hint="--password-stdin")
    registry = DOCKER if options.registry in (DOCKER, f"index.{DOCKER}") else options.registry
    verify = options.tls_verify == "true" and not is_loopback(registry)
    words = ["login", "--username", options.username, "--password-stdin", f"--tls-verify={str(verify).lower()}"]
    done = skopeo([*words, "--authfile", place(options.authfile), registry], password)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["skopeo gives no reason"])[-1]
        raise RegistryError("registry.unauthorized", f"{registry} doesn't take this user and password: {said}")
    say(f"logged in to {registry}")
    return 0


def place(authfile: str) -> str:
    """The file of credentials that is written."""
    from boxwright.repositories.registry.credentials import login_file

    return authfile or login_file(os.environ, os.geteuid())


def skopeo(words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run skopeo."""
    try:
        return subprocess.run(["skopeo", *words], input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MachineError("machine.no-skopeo", "the program skopeo is missing", hint="apt install skopeo") from error
