"""Times, sizes, ports, commands and volumes as stacks write them."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Final

from boxwright.frontends.stack.problem import wrong
from boxwright.model.image import Port
from boxwright.model.span import Span
from boxwright.model.stack import StackPublished, VolumeUse

HIGHEST: Final = 65535
MOST_PORTS: Final = 1000
"""In one range."""
_SECONDS: Final = {"us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES: Final = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "kiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip


def seconds(text: str) -> float:
    """``1m30s`` in seconds; the schema has seen to its form."""
    parts: list[tuple[str, str]] = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def size(text: str) -> int:
    """``5GiB`` in bytes; 0 for an empty one."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", text)
    return int(float(found[1]) * _SIZES[found[2]]) if found else 0


def published(text: str, where: Span) -> StackPublished:
    """``[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]``. Raises `stack.value`."""
    found = ports(text, where)
    if len(found) != 1:
        raise wrong("value", f"{text}: one port is expected, not a range", where)
    return found[0]


def ports(text: str, where: Span) -> tuple[StackPublished, ...]:
    """``[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]``, where HOST and CONTAINER may be ranges. Raises `stack.value`."""
    both, slash, protocol = text.partition("/")
    address, host = "", ""
    if both.startswith("["):
        raise wrong("value", f"{text}: only IPv4 addresses are published", where, hint="such as 127.0.0.1:8080:80")
    parts = both.split(":")
    if len(parts) > 3 or (slash and not protocol):
        raise wrong("value", f"{text!r} is no port", where, hint="[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]")
    if len(parts) > 1:
        host = parts[-2]
    if len(parts) == 3:
        address = parts[0]
    return joined_ports(parts[-1], host, protocol or "tcp", address, where)


def joined_ports(target: str, host: str, protocol: str, address: str, where: Span) -> tuple[StackPublished, ...]:
    """Each port of the container with its port of the host; `host` empty is any. Raises `stack.value`."""
    if protocol.lower() not in ("tcp", "udp"):
        raise wrong("value", f"{protocol!r} is no protocol", where, hint="tcp or udp")
    if address and not is_address(address):
        raise wrong("value", f"{address!r} is no IPv4 address", where, hint="such as 127.0.0.1")
    inside = port_range(target, where)
    if not host.strip("0"):
        return tuple(StackPublished(Port(port, protocol.lower(), 0), address) for port in inside)
    outside = port_range(host, where)
    if len(inside) != len(outside):
        hint = "as many ports of the host as of the container, such as 8080-8082:80-82"
        raise wrong("value", f"{host} can't lead to {target}", where, hint=hint)
    both = zip(inside, outside, strict=True)
    return tuple(StackPublished(Port(port, protocol.lower(), on), address) for port, on in both)


def port_range(text: str, where: Span) -> range:
    """``80`` or ``80-82``. Raises `stack.value`."""
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < first <= last <= HIGHEST:
        raise wrong("value", f"{text!r} is no port", where, hint=f"ports are from 1 to {HIGHEST}")
    if last - first >= MOST_PORTS:
        raise wrong("value", f"{text}: more than {MOST_PORTS} ports", where)
    return range(first, last + 1)


def is_address(text: str) -> bool:
    """Whether it is an IPv4 address."""
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def host_name(text: str, where: Span) -> str:
    """A name that leads to something in a network. Raises `stack.value`."""
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", text):
        raise wrong("value", f"{text!r} can't be a name in a network", where, hint="letters, digits, . _ -")
    return text


def words(command: str | tuple[str, ...], where: Span) -> tuple[str, ...]:
    """A command as words: text is split as a shell does it, nothing in it is expanded. Raises `stack.value`."""
    if not isinstance(command, str):
        return command
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise wrong("value", f"{command!r} can't be split into words: {error}", where) from error


def volume(text: str, where: Span) -> VolumeUse:
    """``[SOURCE:]TARGET[:ro]``; a name alone is a database's volume. Raises `stack.value`."""
    parts = text.split(":")
    read_only = len(parts) > 1 and parts[-1] in ("ro", "rw", "z", "Z")
    modes = [parts.pop()] if read_only else []
    if len(parts) == 1:
        source, target = ("", parts[0]) if parts[0].startswith("/") else (parts[0], "")
    elif len(parts) == 2:
        source, target = parts
    else:
        source = target = ""
    good = (target.startswith("/") and target.strip("/")) or (not target and source and not modes)
    if not good or not (source or target):
        raise wrong("value", f"{text!r} is no volume", where, hint="NAME:/TARGET[:ro] or ./PATH:/TARGET[:ro]")
    return VolumeUse(source, target, "ro" in modes)
