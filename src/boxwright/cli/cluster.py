"""Make a cluster of LXD servers, join it, look at it, and empty a member for maintenance."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.engines.lxdclient.client import LxdClient

PORT = 8443
LEAST_OFFLINE = 11
HEADINGS = ("NAME", "ADDRESS", "STATE", "DOMAIN", "INSTANCES", "ROLES", "MESSAGE")


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `cluster`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "Make this machine's LXD the first member of a cluster."
    init = _command(commands, "init", text)
    init.add_argument("--name", default=socket.gethostname().partition(".")[0], help="this member's name")
    _add_address(init)
    init.add_argument("--driver", default="dir", help="of the storage pool that is made where there is none (dir)")
    text = "after how many seconds of silence a member counts as offline (20; LXD takes no less than 11)"
    init.add_argument("--offline-after", type=int, default=20, metavar="SECONDS", help=text)
    invite = _command(commands, "invite", "Print a token with which one server can join.")
    invite.add_argument("name", metavar="NAME", help="what the new member is called")
    join = _command(commands, "join", "Join a cluster with a token, which is read from standard input.")
    _add_address(join)
    join.add_argument(
        "--source", action="append", default=[], metavar="POOL=PATH", help="where this server keeps a storage pool"
    )
    status = _command(commands, "status", "Show the members; the exit status is 1 where one is not online.")
    status.add_argument("--json", action="store_true")
    text = "Start a member's instances elsewhere, and then stop it taking any."
    _command(commands, "evacuate", text).add_argument("name", metavar="NAME")
    _command(commands, "restore", "Let a member take instances again.").add_argument("name", metavar="NAME")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=text.rstrip(".").lower(), description=text)
    made.add_argument("--remote", default="", help="the LXD remote")
    return made


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", required=True, metavar="HOST[:PORT]", help="where other members reach this one")


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    from boxwright.engines.lxdclient.address import find_endpoint
    from boxwright.engines.lxdclient.client import LxdClient

    if options.action in ("evacuate", "restore"):
        return _maintain(options)
    with LxdClient(find_endpoint(options.remote, os.environ)) as client:
        return {"init": _init, "invite": _invite, "join": _join, "status": _status}[options.action](client, options)


def _init(client: LxdClient, options: argparse.Namespace) -> int:
    from boxwright.engines.lxdclient.cluster import start_cluster

    if options.offline_after < LEAST_OFFLINE:
        raise UsageError("usage.offline-after", f"LXD takes no less than {LEAST_OFFLINE} seconds")
    start_cluster(client, options.name, _with_port(options.address), options.driver, options.offline_after)
    note(f"{options.name} is the first member; for each other one: boxwright cluster invite NAME")
    return 0


def _invite(client: LxdClient, options: argparse.Namespace) -> int:
    from boxwright.engines.lxdclient.cluster import invite

    say(invite(client, options.name))
    note(f"on {options.name}: boxwright cluster join --address ITS-ADDRESS, and this text as its input")
    return 0


def _join(client: LxdClient, options: argparse.Namespace) -> int:
    from boxwright.engines.lxdclient.cluster import join, read_token

    sources = dict(it.partition("=")[::2] for it in options.source)
    if not all(sources.values()):
        raise UsageError("usage.source", "--source is POOL=PATH")
    if sys.stdin.isatty():
        note("the token:")
    joining = read_token(sys.stdin.readline())
    join(client, joining, _with_port(options.address), sources)
    note(f"{joining.name} is a member")
    return 0


def _status(client: LxdClient, options: argparse.Namespace) -> int:
    from boxwright.engines.lxdclient.cluster import instances_by_member, members, require_cluster

    require_cluster(client)
    found = members(client)
    instances = instances_by_member(client)
    if options.json:
        say(json.dumps([{**it._asdict(), "instances": instances.get(it.name, [])} for it in found], indent=2))
    else:
        table = [HEADINGS]
        for it in found:
            count = str(len(instances.get(it.name, ())))
            table.append((it.name, it.address, it.state, it.domain, count, ", ".join(it.roles), it.said))
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        for row in table:
            say("  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip())
    return 0 if all(it.state == "online" for it in found) else 1


def _maintain(options: argparse.Namespace) -> int:
    """Evacuate or restore a member; every stack of the cluster moves."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.members import evacuate_member, restore_member

    work = evacuate_member if options.action == "evacuate" else restore_member
    with open_store(os.environ) as store:
        work(store, options.remote, options.name, lambda it: note(f"{it.what} {it.name}: {it.text}".rstrip(": ")))
    return 0


def _with_port(address: str) -> str:
    """``HOST:PORT``, as LXD wants it."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
        return address
    return f"[{address}]:{PORT}" if ":" in address and not address.startswith("[") else f"{address}:{PORT}"
