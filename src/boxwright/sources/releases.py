"""What people call a release: the numbers and tags that stand for suites and branches."""

from __future__ import annotations

import re

ALPINE_LATEST = "3.23"
"""What ``alpine:latest`` and ``alpine:3`` mean: fixed, so that a recipe means the same next year. Package format 2."""

DEBIAN = {"10": "buster", "11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}
UBUNTU = {
    "16.04": "xenial",
    "18.04": "bionic",
    "20.04": "focal",
    "22.04": "jammy",
    "24.04": "noble",
    "24.10": "oracular",
    "25.04": "plucky",
    "25.10": "questing",
    "26.04": "resolute",
}
_SUITES = {"debian": DEBIAN, "ubuntu": UBUNTU}
_LATEST = {"debian": "trixie", "ubuntu": "noble"}
_POINT = re.compile(r"(\d\d\.\d\d|\d\d)(\.\d+)?")
"""Of 12.5 or 24.04.1 what is before the point release."""
_ALPINE = re.compile(r"(3\.\d+)(\.\d+)?")


def canonical_suite(distribution: str, written: str) -> str:
    """The one spelling of a suite: ``12`` is bookworm, ``24.04`` noble, ``latest`` fixed, ``-slim`` is what all are.

    Of an Alpine version the branch counts (``3.20.3`` is 3.20): a mirror has only a branch's newest packages.
    """
    suite = written.removesuffix("-slim")
    if distribution == "alpine":
        found = _ALPINE.fullmatch(suite)
        return ALPINE_LATEST if suite in ("latest", "3") else found[1] if found else suite
    if suite == "latest":
        return _LATEST.get(distribution, suite)
    numbers = _SUITES.get(distribution, {})
    number = _POINT.fullmatch(suite)
    return numbers.get(number[1] if number else suite, suite)
