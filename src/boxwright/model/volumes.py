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


class GuardNote(NamedTuple):
    """What a `watch` has written down: after so many seconds without a quorum it stops its member's instances.

    It does so if it loses the quorum before `until` (seconds since 1970), and writes a later one while it runs.
    """

    stop_after: float
    until: float


class VolumeState(NamedTuple):
    """A volume on its `member` (empty where there is one host, or all hosts have it).

    `generation` counts its replacements by copies. Where it was started from one, `copied` is what time that copy was
    of, and `since` when it was done. `stale` are members on which an older generation lies.
    """

    name: str
    member: str = ""
    generation: int = 1
    copies: tuple[VolumeCopy, ...] = ()
    copied: float = 0.0
    since: float = 0.0
    stale: tuple[str, ...] = ()


def snapshot_name(moment: float) -> str:
    """What a snapshot of a moment is called: ``20261122T081500Z``."""
    return time.strftime(_FORMAT, time.gmtime(moment))


def snapshot_time(name: str) -> float:
    """When a snapshot was taken, from a name that ends like that; 0 for others."""
    try:
        return float(calendar.timegm(time.strptime(name[-_LENGTH:], _FORMAT)))
    except ValueError:
        return 0.0
