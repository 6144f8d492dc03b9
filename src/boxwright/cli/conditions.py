"""Options of `build` about what RUN steps are given; `why` takes those that count in keys."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from boxwright.app.mounts import MountOptions
    from boxwright.steps.run import RunConditions


class Given(NamedTuple):
    """What was given: for mounts, and for every RUN step; None where nothing was."""

    mounts: MountOptions | None
    conditions: RunConditions | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Those that count in keys."""
    add = parser.add_argument
    add("--secret", action="append", default=[], metavar="id=ID[,src=FILE|,env=NAME]")
    add("--secret-in-key", action="store_true", help="build steps again whose secret changed: a keyed hash counts")
    add("--add-host", action="append", default=[], metavar="NAME:ADDRESS", help="a line of /etc/hosts for RUN")
    add("--shm-size", metavar="SIZE", help="the size of /dev/shm for RUN (default: 64m)")
    add("--ulimit", action="append", default=[], metavar="NAME=SOFT[:HARD]", help="a resource limit for RUN")


def configure_build(parser: argparse.ArgumentParser) -> None:
    """All of them."""
    configure(parser)
    add = parser.add_argument
    add("--ssh", action="append", default=[], metavar="ID[=SOCKET|KEY,...]", help="an SSH agent for RUN mounts")
    add("--cgroup-parent", default="", metavar="PATH", help="a control group below which RUN steps run")
    add("--allow", action="append", default=[], metavar="network.host|security.insecure")
    add("--no-cache-filter", action="append", default=[], metavar="STAGE,...", help="run these stages again")


def given(options: argparse.Namespace) -> Given:
    """What the options say. Nothing is imported where none was given."""
    mounts = conditions = None
    agents = getattr(options, "ssh", [])
    if options.secret or agents:
        from boxwright.app.mounts import MountOptions
        from boxwright.app.secrets import read_secrets
        from boxwright.sandbox.agents import parse_agents

        secrets = read_secrets(options.secret, os.environ)
        found = parse_agents(tuple(agents), os.environ)
        mounts = MountOptions(tuple(secrets.items()), options.secret_in_key, tuple(found.items()))
    parent = getattr(options, "cgroup_parent", "")
    if options.add_host or options.shm_size or options.ulimit or parent:
        from boxwright.app.limits import parse_binary_size, parse_host, parse_limit
        from boxwright.steps.run import RunConditions

        conditions = RunConditions(
            hosts=tuple(parse_host(text) for text in options.add_host),
            limits=tuple(sorted({item[0]: item for item in map(parse_limit, options.ulimit)}.values())),
            shm_size=parse_binary_size(options.shm_size, "--shm-size") if options.shm_size else 0,
            cgroup_parent=parent,
        )
    return Given(mounts, conditions)


def allowed(options: argparse.Namespace) -> frozenset[str]:
    """What ``--allow`` names; ``--network host`` allows what it asks for."""
    if not options.allow and options.network != "host":
        return frozenset()
    from boxwright.app.allowed import NETWORK_HOST, parse_allowed

    return parse_allowed(options.allow) | ({NETWORK_HOST} if options.network == "host" else set())
