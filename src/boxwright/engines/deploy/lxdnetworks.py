"""Networks of stacks on LXD: a bridge, in a cluster one on each member, joined by VXLAN tunnels.

LXD, doc/reference/network_bridge.md (`tunnel.NAME.*`). LXD takes the interface of each member's default route for a
tunnel and multicast to find the others, so members must be in one network that passes multicast on.

A server passes packets on between its bridges. So each network has an access list (LXD, howto/network_acls.md) by which
nothing from outside of its subnet begins a connection into it; published ports are proxies within the instances.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from boxwright.engines.deploy.lxdmemory import STACK, USER, unless_gone
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import answers, members
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import LABEL, NetworkSpec

NAME = f"{USER}{LABEL}network"
_TUNNEL = "vx"
_WIDTH, _CLUSTER_WIDTH = 12, 8
_IDS = 1 << 24
_SETTLE_SECONDS, _LOOK_SECONDS = 20.0, 0.5


def bridge_name(stack: str, network: str, *, clustered: bool) -> str:
    """The names of interfaces are short; that of a tunnel begins with its bridge's."""
    width = _CLUSTER_WIDTH if clustered else _WIDTH
    return f"bw{hashlib.sha256(f'{stack}/{network}'.encode()).hexdigest()[:width]}"


def create_bridge(client: LxdClient, name: str, stack: str, spec: NetworkSpec) -> None:
    """One for a single host, without DHCP: addresses are given out by the deployment."""
    create_access_list(client, name, spec.subnet)
    client.run(
        "POST", "/networks", {"name": name, "type": "bridge", "config": {**_config(stack, spec), **_closed(name)}}
    )


def create_access_list(client: LxdClient, name: str, subnet: str) -> None:
    """The list of a network, of the same name; one that an interrupted attempt left is written anew."""
    rules = {"ingress": [{"action": "allow", "source": subnet, "state": "enabled"}], "egress": []}
    body = {"name": name, "description": "made by boxwright", "config": {}, **rules}
    if client.find(f"/network-acls/{name}") is None:
        client.run("POST", "/network-acls", body)
    else:
        client.run("PUT", f"/network-acls/{name}", body)


def delete_access_list(client: LxdClient, name: str) -> None:
    """Once its network is gone."""
    unless_gone(partial(client.run, "DELETE", f"/network-acls/{name}"))


def _closed(name: str) -> dict[str, str]:
    """What is not named by the list comes in from nowhere, and goes out anywhere."""
    ways = {"ingress": "drop", "egress": "allow"}
    return {"security.acls": name, **{f"security.acls.default.{way}.action": action for way, action in ways.items()}}


def _config(stack: str, spec: NetworkSpec) -> dict[str, str]:
    subnet = ipaddress.IPv4Network(spec.subnet)
    config = {
        "ipv4.address": f"{subnet[1]}/{subnet.prefixlen}",
        "ipv4.nat": "false" if spec.internal else "true",
        "ipv4.dhcp": "false",
        "ipv6.address": "none",
        "dns.mode": "none",
        STACK: stack,
        NAME: spec.name,
    }
    return {**config, "ipv4.routing": "false"} if spec.internal else config


def create_cluster_bridge(client: LxdClient, name: str, stack: str, spec: NetworkSpec) -> None:
    """One on each member; with `across: hosts` they are one network. Raises BoxwrightError `deploy.member-away`."""
    found = members(client)
    until = time.monotonic() + _SETTLE_SECONDS
    while (away := [it for it in found if it.state == "offline"]) and time.monotonic() < until:
        if not all(answers(it) for it in away):
            break
        time.sleep(_LOOK_SECONDS)  # their next heartbeat tells that they are there
        found = members(client)
    if away:
        names = ", ".join(it.name for it in away)
        message = f"the network {spec.name} can't be made while {names} does not answer"
        raise BoxwrightError("deploy.member-away", message, hint="LXD makes a network on all members, or not at all")
    create_access_list(client, name, spec.subnet)
    config = _config(stack, spec) | _closed(name)
    if spec.across != "host":
        taken = {_tunnel_id(it) for it in client.get("/networks", recursion="1")}
        config |= {f"tunnel.{_TUNNEL}.protocol": "vxlan", f"tunnel.{_TUNNEL}.id": str(_free_id(name, taken))}
    for member in found:
        body = {"name": name, "type": "bridge", "config": {}}
        _unless_there(partial(client.run, "POST", "/networks", body, query={"target": member.name}))
    client.run("POST", "/networks", {"name": name, "type": "bridge", "config": config})


def _unless_there(work: Callable[[], object]) -> None:
    """An interrupted deployment may have begun it."""
    from boxwright.engines.lxdclient.failures import LxdError

    try:
        work()
    except LxdError as error:
        if "already" not in error.message:
            raise


def _tunnel_id(network: Mapping[str, Any]) -> int:
    text = (network.get("config") or {}).get(f"tunnel.{_TUNNEL}.id", "0")
    return int(text) if text.isdecimal() else 0


def _free_id(name: str, taken: set[int]) -> int:
    """The network's number in the tunnels (RFC 7348: 24 bits)."""
    number = int(name.removeprefix("bw"), 16) % _IDS
    while number == 0 or number in taken:
        number = (number + 1) % _IDS
    return number


def subnet_of(network: Mapping[str, Any]) -> str:
    """Its subnet as LXD shows it; empty where it has none."""
    address = (network.get("config") or {}).get("ipv4.address", "none")
    return "" if address in ("none", "") else str(ipaddress.IPv4Network(address, strict=False))
