"""Forget what 'boxwright login' keeps of a registry."""

from __future__ import annotations

import argparse

from boxwright.cli.console import say
from boxwright.cli.login import place, skopeo


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `logout`."""
    parser.add_argument("registry", metavar="REGISTRY", help="HOST[:PORT]")
    parser.add_argument("--authfile", default="", metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Log out."""
    from boxwright.repositories.registry.failures import RegistryError

    done = skopeo(["logout", "--authfile", place(options.authfile), options.registry])
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["skopeo gives no reason"])[-1]
        raise RegistryError("registry.not-logged-in", f"{options.registry}: {said}")
    say(f"logged out of {options.registry}")
    return 0
