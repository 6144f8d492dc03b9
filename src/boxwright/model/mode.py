"""Modes as chmod(1) takes them: octal, or symbolic as POSIX has them (the Dockerfile reference, COPY --chmod)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

ModeChange: TypeAlias = Callable[[int, bool], int]
"""From a mode, and whether it is a directory's, to the new mode."""

_OCTAL = re.compile(r"[0-7]{1,8}", re.ASCII)
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", re.ASCII)
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)", re.ASCII)
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_HIGHEST = 0o7777

_Action: TypeAlias = tuple[str, str, str]


def parse_mode(text: str) -> ModeChange:
    """What ``--chmod`` does to a mode. Raises ValueError for what is no mode."""
    if _OCTAL.fullmatch(text) and int(text, 8) <= _HIGHEST:
        mode = int(text, 8)
        return lambda old, is_directory: mode  # noqa: ARG005 - whatever it was
    actions: list[_Action] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(f"{text!r} is no mode")
        actions += [(match[1].replace("a", "ugo") or "ugo", *found) for found in _ACTION.findall(match[2])]
    return lambda old, is_directory: _changed(old, actions, is_directory=is_directory)


def _changed(mode: int, actions: list[_Action], *, is_directory: bool) -> int:
    for who, operator, permissions in actions:
        bits = _bits(mode, who, permissions, is_directory=is_directory)
        if operator == "+":
            mode |= bits
        elif operator == "-":
            mode &= ~bits
        else:
            mode = (mode & ~_mask(who)) | bits
    return mode


def _bits(mode: int, who: str, permissions: str, *, is_directory: bool) -> int:
    """The bits that `permissions` stand for in the classes `who`."""
    if permissions in _SHIFTS:
        taken = (mode >> _SHIFTS[permissions]) & 7
    else:
        taken = sum(_BITS.get(letter, 0) for letter in set(permissions))
        if "X" in permissions and (is_directory or mode & 0o111):
            taken |= 1
    bits = sum(taken << _SHIFTS[letter] for letter in set(who))
    if "s" in permissions:
        bits |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in permissions and "o" in who:
        bits |= 0o1000
    return bits


def _mask(who: str) -> int:
    mask = sum(7 << _SHIFTS[letter] for letter in set(who))
    return mask | (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0) | (0o1000 if "o" in who else 0)
