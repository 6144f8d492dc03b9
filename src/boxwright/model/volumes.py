"""What is known of a stack's volumes: where each is, its copies, its snapshots."""

from __future__ import annotations

import calendar
import time
from typing import NamedTuple

_FORMAT = "%Y%m%dT%H%M%SZ"
_LENGTH = len("20261122T081500Z")


class VolumeCopy(NamedTuple):
    """A whole copy of a volume on another member, of how it was at `time` (seconds since 1970)."""

    member: str
    time: float


class VolumeSnapshot(NamedTuple):
    """A snapshot of a volume; `time` in seconds since 1970, 0 where that is not known."""

    name: str
    time: float = 0.0


RENEWED_SECONDS = 2.0
"""How often a guard writes down that there is a quorum."""
PROMISED_SECONDS = 20.0
"""For how long a guard's note holds: who was killed can't take his back."""
LATE_SECONDS = 3.0
"""How late a guard may notice that there is no quorum, and then that it is time: its question and its pause."""


class GuardNote(NamedTuple):
    """What a `watch` has written down: so many seconds after it lost the quorum none of its member's instances runs.

    It sees to that if it loses the quorum before `until` (seconds since 1970), and writes a later one while it runs.
    """

    ended_after: float
    until: float


class VolumeState(NamedTuple):
    """A volume on its `member` (empty where there is one host, or all hosts have it).

    `generation` counts its replacements by copies. Where it was started from one, `copied` is what time that copy was
    of, and `since` when it was done. `stale` are members on which an older generation lies. `size` is in bytes, 0
    without a limit; `pools` is what its storage pool is called.
    """

    name: str
    member: str = ""
    generation: int = 1
    copies: tuple[VolumeCopy, ...] = ()
    copied: float = 0.0
    since: float = 0.0
    stale: tuple[str, ...] = ()
    size: int = 0
    pools: tuple[str, ...] = ()


def size_text(size: int) -> str:
    """Bytes as stacks write them: ``5GiB``; 0 is no limit."""
    for unit, bits in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("kiB", 10)):
        if size and not size % (1 << bits):
            return f"{size >> bits}{unit}"
    return f"{size}B" if size else "without a limit"


def snapshot_name(moment: float) -> str:
    """What a snapshot of a moment is called: ``20261122T081500Z``."""
    return time.strftime(_FORMAT, time.gmtime(moment))


def snapshot_time(name: str) -> float:
    """When a snapshot was taken, from a name that ends like that; 0 for others."""
    try:
        return float(calendar.timegm(time.strptime(name[-_LENGTH:], _FORMAT)))
    except ValueError:
        return 0.0
