"""Subnets and addresses, given out by Boxwright so that they are known before an instance starts. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from boxwright.errors import BoxwrightError

_SMALLEST_PART = 30

PLAIN, CUT = 24, 20
"""How long the prefix of a chosen subnet is; of one that is cut into parts."""


def choose_subnet(stack: str, network: str, taken: Iterable[str], prefix: int = PLAIN) -> str:
    """One below 10.64.0.0/10 that overlaps none of `taken`: always the same one where that is free."""
    others = [ipaddress.IPv4Network(text, strict=False) for text in taken]
    start = int.from_bytes(hashlib.sha256(f"{stack}\0{network}".encode()).digest()[:4], "big")
    count = 1 << (prefix - 10)
    for step in range(count):
        number = (start + step) % count
        subnet = ipaddress.IPv4Network(((10 << 24) + (64 << 16) + (number << (32 - prefix)), prefix))
        if not any(subnet.overlaps(other) for other in others):
            return str(subnet)
    raise BoxwrightError("deploy.subnet", "there is no free subnet below 10.64.0.0/10", hint="name one with `subnet:`")


def gateway(subnet: str) -> str:
    """The address of the bridge: the first one."""
    return str(ipaddress.IPv4Network(subnet)[1])


def part_of(subnet: str, parts: int, part: int) -> str:
    """One of so many equal parts of a subnet. Raises BoxwrightError `deploy.subnet-full` where it is too small."""
    network = ipaddress.IPv4Network(subnet)
    more = (parts - 1).bit_length()
    if network.prefixlen + more > _SMALLEST_PART:
        message = f"{subnet} is too small to tell {parts} kinds of containers apart"
        raise BoxwrightError("deploy.subnet-full", message, hint="take a larger subnet, such as a /20")
    size = network.num_addresses >> more
    return str(ipaddress.IPv4Network((int(network.network_address) + part * size, network.prefixlen + more)))


def next_address(subnet: str, used: Iterable[str], within: str = "") -> str:
    """The first free one after the gateway, in the part `within`. Raises BoxwrightError `deploy.subnet-full`."""
    taken = set(used)
    network, part = ipaddress.IPv4Network(subnet), ipaddress.IPv4Network(within or subnet)
    # The first address of a part ends in 0 often, which some programs take for a network's.
    first = max(int(network.network_address) + 2, int(part.network_address) + (1 if within else 0))
    last = min(int(network.broadcast_address), int(part.broadcast_address) + 1)
    for number in range(first, last):
        address = str(ipaddress.IPv4Address(number))
        if address not in taken:
            return address
    message = f"all addresses of {within or subnet} are in use"
    raise BoxwrightError("deploy.subnet-full", message, hint="take a larger subnet")


def hosts_text(names: Iterable[tuple[str, str]]) -> str:
    """/etc/hosts (hosts(5)) from addresses and names; a name may have several addresses."""
    by_address: dict[str, list[str]] = {}
    for address, name in names:
        found = by_address.setdefault(address, [])
        if name not in found:
            found.append(name)
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {' '.join(found)}" for address, found in by_address.items()]
    return "\n".join(lines) + "\n"
