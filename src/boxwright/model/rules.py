"""Rules of a network: who may reach whom. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

ANY = "*"
HIGHEST_PORT = 65535
_FORM = re.compile(
    r"(?:(?P<source>\S+)\s*->\s*)?(?P<target>[^\s:>]+)"
    r"(?::(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?(?:/(?P<protocol>tcp|udp))?)?",
    re.ASCII,
)


class Rule(NamedTuple):
    """New connections from `source` to `target`, each the name of a container, an address, a subnet or ``*``.

    `protocol` is tcp, udp, or empty for all; `first` and `last` are ports, both 0 for all.
    """

    source: str
    target: str
    protocol: str = ""
    first: int = 0
    last: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The containers that it names."""
        return tuple(it for it in (self.source, self.target) if it != ANY and subnet_text(it) is None)


def parse_rule(text: str) -> Rule:
    """``[SOURCE ->] TARGET[:PORT[-PORT][/tcp|/udp]]``; a port alone is one of TCP. Raises ValueError."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no rule")
    first = int(found["first"] or 0)
    last = int(found["last"] or first)
    if found["first"] is not None and not 1 <= first <= last <= HIGHEST_PORT:
        raise ValueError(f"{text!r} is no rule")
    protocol = (found["protocol"] or "tcp") if first else ""
    return Rule(_side(found["source"] or ANY), _side(found["target"]), protocol, first, last)


def _side(text: str) -> str:
    subnet = subnet_text(text)
    if subnet is None and "/" in text:
        raise ValueError(f"{text!r} is no rule")
    return subnet or text


def subnet_text(text: str) -> str | None:
    """An IPv4 address or subnet in one form; None for anything else."""
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError:
        return None
