"""Ports of a container on the host: what is asked for, which are free, and how pasta(1) is told."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from boxwright.errors import BoxwrightError, UsageError
from boxwright.model.image import Port

HIGHEST = 65535
GOING_SECONDS = 1.0
"""How long the port of a container that has just ended may still be in use."""
_PAUSE_SECONDS = 0.02
_FORM = re.compile(r"(?:(?:(\d+\.\d+\.\d+\.\d+):)?(\d{0,5}):)?(\d{1,5})(?:/(tcp|udp))?", re.ASCII)


class Forward(NamedTuple):
    """A port of the host that leads into a container. `host` 0 is any free one, `address` empty every address."""

    container: int
    protocol: str
    host: int
    address: str = ""

    def __str__(self) -> str:
        return f"{self.address or '*'}:{self.host}->{self.container}/{self.protocol}"


class PortOptions(NamedTuple):
    """pasta's port specifications, by protocol."""

    tcp: tuple[str, ...] = ()
    udp: tuple[str, ...] = ()


def parse_forward(text: str) -> Forward:
    """``[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]``. Raises UsageError `usage.port`."""
    found = _FORM.fullmatch(text)
    numbers = (int(found[2] or 0), int(found[3])) if found else (0, 0)
    if found is None or not 0 < numbers[1] <= HIGHEST or numbers[0] > HIGHEST:
        raise UsageError(
            "usage.port", f"-p {text}: no port", hint="[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp], each 1 to 65535"
        )
    return Forward(numbers[1], found[4] or "tcp", numbers[0], found[1] or "")


def wanted(published: Iterable[Port], exposed: Iterable[Port], given: Sequence[Forward]) -> tuple[Forward, ...]:
    """What is forwarded: the given ports, and of the image's those that no given one names."""
    named = {(forward.container, forward.protocol) for forward in given}
    result = list(given)
    for port in (*published, *exposed):
        if (port.container, port.protocol) not in named and port.protocol in ("tcp", "udp"):
            named.add((port.container, port.protocol))
            result.append(Forward(port.container, port.protocol, port.host))
    return tuple(result)


def claim(forwards: Sequence[Forward], patience: float = 0.0) -> tuple[Forward, ...]:
    """The same with a free port for each 0. Raises BoxwrightError `run.port-taken` or `run.port-denied`.

    What had a port before may still be going away: that is waited for, `patience` seconds. Nothing stays bound: hold a
    lock against others who look until the ports are in use.
    """
    until = time.monotonic() + patience
    while True:
        try:
            with ExitStack() as held:
                return tuple([forward._replace(host=_bind(forward, held)) for forward in forwards])
        except BoxwrightError as error:
            if error.code != "run.port-taken" or time.monotonic() >= until:
                raise
        time.sleep(_PAUSE_SECONDS)


def _bind(forward: Forward, held: ExitStack) -> int:
    stream = forward.protocol == "tcp"
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM))
    if stream:
        # Connections that have just ended don't hinder (socket(7)); a listening socket still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((forward.address, forward.host))
        if stream:
            probe.listen(1)
    except OSError as error:
        raise _refused(forward, error) from error
    return int(probe.getsockname()[1])


def _refused(forward: Forward, error: OSError) -> BoxwrightError:
    port = f"{forward.host}/{forward.protocol}"
    if error.errno == errno.EADDRINUSE:
        return BoxwrightError(
            "run.port-taken", f"port {port} of this machine is in use", hint="choose another one with -p HOST:CONTAINER"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "use one from 1024 up, or as root: sysctl net.ipv4.ip_unprivileged_port_start=80"
        return BoxwrightError("run.port-denied", f"an ordinary user may not use port {port}", hint=hint)
    return BoxwrightError("run.port-address", f"port {port} at {forward.address} can't be used: {error.strerror}")


def pasta_options(forwards: Sequence[Forward]) -> PortOptions:
    """As pasta(1) has them: ``ADDRESS/HOST:CONTAINER``."""

    def of(protocol: str) -> tuple[str, ...]:
        return tuple(
            f"{forward.address}/{forward.host}:{forward.container}"
            if forward.address
            else f"{forward.host}:{forward.container}"
            for forward in forwards
            if forward.protocol == protocol
        )

    return PortOptions(of("tcp"), of("udp"))
