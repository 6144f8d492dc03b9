"""Patterns of one path component, as Go's filepath.Match has them (the Dockerfile reference, COPY)."""

from __future__ import annotations

import re


def glob_to_regex(pattern: str) -> str:
    """A regular expression for fullmatch. Raises ValueError for a class that isn't closed."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "\\" and position < len(pattern):
            parts.append(re.escape(pattern[position]))
            position += 1
        elif char == "[":
            text, position = _character_class(pattern, position)
            parts.append(text)
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _character_class(pattern: str, position: int) -> tuple[str, int]:
    negated = pattern.startswith("^", position)
    position += negated
    members: list[str] = []
    while position < len(pattern) and (pattern[position] != "]" or not members):
        low, position = _member(pattern, position)
        if pattern.startswith("-", position) and position + 1 < len(pattern):
            high, position = _member(pattern, position + 1)
            if low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            members.append(re.escape(low))
    if position >= len(pattern):
        raise ValueError(f"the character class in {pattern!r} isn't closed")
    return f"[{'^' if negated else ''}{''.join(members)}]", position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    if pattern[position] == "\\" and position + 1 < len(pattern):
        return pattern[position + 1], position + 2
    return pattern[position], position + 1
