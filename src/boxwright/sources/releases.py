"""What people call a release: the numbers and tags that stand for suites and branches."""

from __future__ import annotations

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
_LATEST = {"alpine": ALPINE_LATEST, "debian": "trixie", "ubuntu": "noble"}
_DEPTH = {"alpine": 2, "debian": 1, "ubuntu": 2}
"""How many numbers name a release; what follows is a point release (3.20.3, 12.5, 24.04.1)."""


def canonical_suite(distribution: str, written: str) -> str:
    """The one spelling of a suite: ``12`` is bookworm, ``24.04`` noble, ``latest`` fixed, ``-slim`` is what all are.

    Of an Alpine version the branch counts (``3.20.3`` is 3.20): a mirror has only a branch's newest packages.
    """
    suite = written.removesuffix("-slim")
    if suite == "latest" or (distribution, suite) == ("alpine", "3"):
        return _LATEST.get(distribution, suite)
    if not suite[0].isdigit():
        return suite
    branch = ".".join(suite.split(".")[: _DEPTH.get(distribution)])
    return branch if distribution == "alpine" else _SUITES.get(distribution, {}).get(branch, suite)
