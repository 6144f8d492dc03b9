"""What ``--add-host``, ``--ulimit`` and ``--shm-size`` say."""

from __future__ import annotations

import ipaddress
import re
import resource

from boxwright.errors import UsageError

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([bkmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_HOST = re.compile(r"[^\s=:#]{1,253}")
UNLIMITED = ("unlimited", "-1")


def parse_binary_size(text: str, option: str) -> int:
    """Bytes, as Docker's options take them: units are powers of 1024. Raises UsageError."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size <= 0:
        raise UsageError("usage.size", f"{option} {text}: a size such as 64m is expected")
    return size


def parse_host(text: str) -> tuple[str, str]:
    """``NAME:ADDRESS`` or ``NAME=ADDRESS``, an IPv6 address also in brackets. Raises UsageError."""
    separator = "=" if "=" in text else ":"
    name, _, address = text.partition(separator)
    if address == "host-gateway":
        hint = "with --network host it is 127.0.0.1; else there is no way to the host's own addresses"
        raise UsageError("usage.add-host", f"--add-host {text}: there is no gateway to the host here", hint=hint)
    try:
        shown = str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        shown = ""
    if not shown or _HOST.fullmatch(name) is None:
        raise UsageError("usage.add-host", f"--add-host {text}: NAME:ADDRESS is expected")
    return name, shown


def parse_limit(text: str) -> tuple[str, int, int]:
    """``NAME=SOFT[:HARD]`` with the names of setrlimit(2). Raises UsageError."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    known = {item.removeprefix("RLIMIT_").lower() for item in dir(resource) if item.startswith("RLIMIT_")}
    if not equals or name not in known:
        hint = f"such as nofile=1024:2048; names: {', '.join(sorted(known))}"
        raise UsageError("usage.ulimit", f"--ulimit {text}: there is no such limit", hint=hint)
    low = _limit(soft, text)
    high = _limit(hard, text) if colon else low
    if high != resource.RLIM_INFINITY and (low == resource.RLIM_INFINITY or low > high):
        raise UsageError("usage.ulimit", f"--ulimit {text}: the soft limit is above the hard one")
    return name, low, high


def _limit(text: str, whole: str) -> int:
    if text in UNLIMITED:
        return resource.RLIM_INFINITY
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError("usage.ulimit", f"--ulimit {whole}: {text!r} is no number")
    return int(text)
