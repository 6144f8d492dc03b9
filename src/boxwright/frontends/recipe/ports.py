"""Ports, as EXPOSE and PORT name them."""

from __future__ import annotations

import re
from functools import lru_cache

from boxwright.frontends.recipe.problem import wrong
from boxwright.model.image import Port
from boxwright.model.span import Span

HIGHEST = 65535
_EXPOSE = re.compile(r"(?:\S*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_PORT = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?", re.ASCII)


def exposed(text: str, where: Span) -> tuple[Port, ...]:
    """``80``, ``80/udp``, ``8000-8010/tcp`` (the reference, EXPOSE). Ports of the host mean nothing here."""
    match = _EXPOSE.fullmatch(text.lower())
    if match is None:
        raise wrong(f"{text!r} is no port", where, hint="EXPOSE PORT[-PORT][/tcp|/udp]")
    first = int(match[1])
    last = int(match[2] or first)
    if not 0 < first <= last <= HIGHEST:
        raise wrong(f"{text!r} is no port or range of ports", where, hint=f"ports are 1 to {HIGHEST}")
    return _range(first, last, match[3] or "tcp")


@lru_cache(maxsize=4)
def _range(first: int, last: int, protocol: str) -> tuple[Port, ...]:
    return tuple(Port(number, protocol) for number in range(first, last + 1))


def published(text: str, where: Span) -> Port:
    """``[HOST:]CONTAINER[/tcp|/udp]`` (PORT)."""
    match = _PORT.fullmatch(text.lower())
    numbers = (int(match[1] or 0), int(match[2])) if match else (0, 0)
    if match is None or not 0 < numbers[1] <= HIGHEST or numbers[0] > HIGHEST or match[1] == "0":
        raise wrong(f"{text!r} is no port", where, hint=f"PORT [HOST:]CONTAINER[/tcp|/udp], each 1 to {HIGHEST}")
    return Port(numbers[1], match[3] or "tcp", numbers[0])
