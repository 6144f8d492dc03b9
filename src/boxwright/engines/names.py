"""Names of containers: what is allowed, and how one is made up."""

from __future__ import annotations

import os
import re

from boxwright.errors import UsageError

_ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_QUALITIES = """
    amber brave brisk calm clear crisp deep eager early fair fine fresh gentle glad gold grand green keen kind lively
    lucky mild neat noble proud quick quiet rapid ready round sharp silent small smooth solid sound steady still
    sunny swift tidy warm wide young
"""
_THINGS = """
    anchor arch barge basket bay beacon bridge brook cabin canal cedar cliff cove crane creek delta dock dune elm
    fern field ford forge grove harbor hill inlet island lantern ledge maple meadow mill orchard pine pond quay reef
    ridge river sail shore spring tower valley willow
"""


def check_name(name: str) -> str:
    """`name`, where it can be a container's. Raises UsageError `usage.name`."""
    if not _ALLOWED.fullmatch(name):
        raise UsageError("usage.name", f"{name!r} is no name for a container", hint="letters, digits and _ . -")
    return name


def made_up_name() -> str:
    """Such as ``quiet_harbor_4f``."""
    first, second, last = os.urandom(3)
    qualities, things = _QUALITIES.split(), _THINGS.split()
    return f"{qualities[first % len(qualities)]}_{things[second % len(things)]}_{last:02x}"
