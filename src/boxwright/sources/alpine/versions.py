"""Versions of Alpine's packages and how they compare (apk-package(5), "VERSION").

NUMBER{.NUMBER}[LETTER]{_SUFFIX[NUMBER]}[~HASH][-rREVISION]
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple, TypeVar

_VERSION = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)*)(?P<letter>[a-z]?)(?P<suffixes>(?:_[a-z]+\d*)*)(?:~(?P<hash>[0-9a-f]+))?(?:-r(?P<release>\d+))?"
)
_SUFFIX = re.compile(r"_([a-z]+)(\d*)")
_T = TypeVar("_T", int, str, tuple[tuple[int, int], ...], tuple[str, int])
_ORDER = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "cvs": 1, "svn": 2, "git": 3, "hg": 4, "p": 5}


class Version(NamedTuple):
    """A version taken apart. `release` is -1 where none is written."""

    numbers: tuple[str, ...]
    letter: str
    suffixes: tuple[tuple[int, int], ...]
    hash: str
    release: int


@cache
def parse_version(text: str) -> Version | None:
    """Take a version apart; None where it is none."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    suffixes = _SUFFIX.findall(found["suffixes"])
    if any(name not in _ORDER for name, _ in suffixes):
        return None
    return Version(
        tuple(found["numbers"].split(".")),
        found["letter"],
        tuple((_ORDER[name], int(number or 0)) for name, number in suffixes),
        found["hash"] or "",
        int(found["release"] or -1),
    )


def compare(one: str, other: str) -> int:
    """Below, at or above 0, as `one` is older than `other`, the same or newer. What is no version is the oldest."""
    left, right = parse_version(one), parse_version(other)
    if left is None or right is None:
        return (left is not None) - (right is not None)
    order = _compare_numbers(left.numbers, right.numbers) or _sign(left.letter, right.letter)
    return (
        order
        or _compare_suffixes(left.suffixes, right.suffixes)
        or _sign((left.hash, left.release), (right.hash, right.release))
    )


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Whether `version OPERATOR wanted` holds: ``= < <= > >= ~``; ``~`` takes whatever begins so."""
    if operator == "~":
        return _begins(version, wanted)
    order = compare(version, wanted)
    return (order < 0 and "<" in operator) or (order > 0 and ">" in operator) or (order == 0 and "=" in operator)


def _begins(version: str, wanted: str) -> bool:
    whole, start = parse_version(version), parse_version(wanted)
    if whole is None or start is None:
        return False
    if start[1:] == ("", (), "", -1):
        return _compare_numbers(whole.numbers[: len(start.numbers)], start.numbers) == 0
    if start.release < 0:
        whole = whole._replace(release=-1)
    return _compare_numbers(whole.numbers, start.numbers) == 0 and whole[1:] == start[1:]


def _compare_numbers(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """The first as numbers; later ones with a leading zero as fractions (1.02 is older than 1.1)."""
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if position and "0" in (one[0], other[0]):
            order = _sign(one.rstrip("0"), other.rstrip("0"))
        else:
            order = _sign(int(one), int(other))
        if order:
            return order
    return _sign(len(left), len(right))


def _compare_suffixes(left: tuple[tuple[int, int], ...], right: tuple[tuple[int, int], ...]) -> int:
    length = max(len(left), len(right))
    none = ((0, 0),)
    return _sign(left + none * (length - len(left)), right + none * (length - len(right)))


def _sign(one: _T, other: _T) -> int:
    return (one > other) - (one < other)
