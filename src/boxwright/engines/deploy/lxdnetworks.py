"""Networks of stacks on LXD: a bridge, in a cluster one on each member, joined by VXLAN tunnels.

LXD, doc/reference/network_bridge.md (`tunnel.NAME.*`). LXD takes the interface of each member's default route for a
tunnel and multicast to find the others, so members must be in one network that passes multicast on.

A server passes packets on between its bridges. So each instance has routes that lead nowhere to the networks of others;
one side of two is enough, since answers don't come back then. (LXD's access lists depend on its driver: with xtables
the list of one bridge ends what that of another should decide.)
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from boxwright.engines.deploy.lxdmemory import STACK, USER
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import answers, members
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import LABEL, Network, NetworkSpec
from boxwright.model.stack import HOSTS

NAME = f"{USER}{LABEL}network"
CHOSEN = "10.64.0.0/10"
"""Below it are the subnets that nobody named."""

OVN = "ovn"
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
    client.run("POST", "/networks", {"name": name, "type": "bridge", "config": _config(stack, spec)})


def foreign_subnets(networks: Iterable[Mapping[str, Any]], attached: Collection[str]) -> tuple[str, ...]:
    """Where nothing leads from an instance that is attached to these networks: what is chosen here, other stacks' own.

    Routes to its own networks are narrower.
    """
    chosen = ipaddress.IPv4Network(CHOSEN)
    others = [it for it in networks if STACK in (it.get("config") or {}) and it["name"] not in attached]
    found = {subnet for it in others if (subnet := subnet_of(it))}
    return (CHOSEN, *sorted(it for it in found if not ipaddress.IPv4Network(it).subnet_of(chosen)))


def is_chosen(subnet: str) -> bool:
    """Whether a subnet is of those that nobody need know of, as nothing leads to any of them."""
    return bool(subnet) and ipaddress.IPv4Network(subnet).subnet_of(ipaddress.IPv4Network(CHOSEN))


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
    config = _config(stack, spec)
    if spec.across != "host":
        taken = {_tunnel_id(it) for it in client.get("/networks", recursion="1")}
        config |= {f"tunnel.{_TUNNEL}.protocol": "vxlan", f"tunnel.{_TUNNEL}.id": str(_free_id(name, taken))}
    for member in found:
        body = {"name": name, "type": "bridge", "config": {}}
        _unless_there(partial(client.run, "POST", "/networks", body, query={"target": member.name}))
    client.run("POST", "/networks", {"name": name, "type": "bridge", "config": config})


def ovn_uplink(client: LxdClient) -> str:
    """The network by which OVN's lead out of the cluster; empty where LXD has no OVN, or none with addresses for it."""
    if not (client.get("").get("config") or {}).get("network.ovn.northbound_connection"):
        return ""
    networks = client.get("/networks", recursion="1")
    return next((str(it["name"]) for it in networks if it.get("managed") and _has_ranges(it)), "")


def _has_ranges(network: Mapping[str, Any]) -> bool:
    return bool((network.get("config") or {}).get("ipv4.ovn.ranges"))


def create_ovn_network(client: LxdClient, name: str, stack: str, spec: NetworkSpec, uplink: str) -> None:
    """One over all members, whichever of them answer (LXD, reference/network_ovn.md).

    It has DHCP, since LXD gives a port a fixed address only then; instances don't ask for it. Each member's answers for
    itself, so no two of them can differ.
    """
    config = _config(stack, spec)
    for key in ("ipv4.dhcp", "dns.mode", "ipv4.routing"):
        config.pop(key, None)
    client.run("POST", "/networks", {"name": name, "type": OVN, "config": {**config, "network": uplink}})


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


def made_as(network: Mapping[str, Any], *, clustered: bool) -> Network:
    """A stack's network as LXD shows it. On a cluster bridges without a tunnel are one for each host."""
    config = network.get("config") or {}
    apart = network.get("type") != OVN and f"tunnel.{_TUNNEL}.id" not in config
    across = ("host" if apart else HOSTS) if clustered else ""
    return Network(config[NAME], subnet_of(network), True, config.get("ipv4.nat") == "false", across)


def subnet_of(network: Mapping[str, Any]) -> str:
    """Its subnet as LXD shows it; empty where it has none."""
    address = (network.get("config") or {}).get("ipv4.address", "none")
    return "" if address in ("none", "") else str(ipaddress.IPv4Network(address, strict=False))
