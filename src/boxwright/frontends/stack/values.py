"""Times, sizes, ports, commands and volumes as stacks write them."""

from __future__ import annotations

import re
import shlex
from typing import Final

from boxwright.frontends.stack.problem import wrong
from boxwright.model.image import Port
from boxwright.model.span import Span
from boxwright.model.stack import StackPublished, VolumeUse

HIGHEST: Final = 65535
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
    words, _, protocol = text.partition("/")
    parts = words.split(":")
    host = int(parts[-2] or 0) if len(parts) > 1 else 0
    port = Port(int(parts[-1]), protocol or "tcp", host)
    if not 0 < port.container <= HIGHEST or host > HIGHEST:
        raise wrong("value", f"{text}: ports are from 1 to {HIGHEST}", where)
    return StackPublished(port, parts[0] if len(parts) > 2 else "")


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


def is_path(source: str) -> bool:
    """Whether a volume's source is a path of the host, and no name."""
    return "/" in source or source in (".", "..")
