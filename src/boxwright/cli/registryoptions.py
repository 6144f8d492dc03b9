"""The options of subcommands that reach registries, with podman's and skopeo's names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.app.registries import Reach


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    add = parser.add_argument
    add("--insecure", action="store_true", help="take plain HTTP and certificates that nobody vouches for")
    add("--tls-verify", choices=("true", "false"), default="true", metavar="BOOL", help="false: as --insecure")
    add("--creds", default="", metavar="USER[:PASSWORD]", help="instead of what 'boxwright login' keeps")
    add("--authfile", default="", metavar="FILE", help="instead of the files of podman and docker")
    add("--retry", type=int, default=3, metavar="N", help="try again N times what may pass by itself")
    add("--retry-delay", type=float, default=1.0, metavar="SECONDS", help="before the first time; then twice as long")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="of silence, after which a try has failed")


def reach(options: argparse.Namespace) -> Reach:
    """What they say."""
    from boxwright.app.registries import Reach
    from boxwright.repositories.registry.credentials import Login
    from boxwright.repositories.registry.retries import Patience

    if options.retry < 0 or options.retry_delay < 0 or options.timeout <= 0:
        raise UsageError("usage.retry", "--retry, --retry-delay and --timeout are not negative")
    user, _, password = options.creds.partition(":")
    insecure = options.insecure or options.tls_verify == "false"
    login = Login(user, password) if user else None
    return Reach(insecure, Patience(options.retry, options.retry_delay), options.timeout, login)


def environment(options: argparse.Namespace) -> Mapping[str, str]:
    """The environment, with the file of credentials that was named."""
    return {**os.environ, "REGISTRY_AUTH_FILE": options.authfile} if options.authfile else os.environ
