"""Shell patterns on values (the reference, "Environment replacement").

``${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}``: ``*`` is any text, ``?`` any character. Nothing is tried twice, so
time is bounded by pattern times value.
"""

from __future__ import annotations

from collections.abc import Sequence

STAR = ("*", True)
ESCAPABLE = "*?\\}/"


class BadEscapeError(ValueError):
    """An escape in a pattern before something that needs none."""


def tokens(pattern: str) -> list[tuple[str, bool]]:
    """Each character of the pattern and whether it is special. Raises BadEscapeError."""
    found: list[tuple[str, bool]] = []
    characters = iter(pattern)
    for char in characters:
        if char == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in ESCAPABLE:
                raise BadEscapeError(char + escaped)
            found.append((escaped, False))
        elif (char, True) != STAR or not found or found[-1] != STAR:
            found.append((char, char in "*?"))
    return found


def _ends(pattern: Sequence[tuple[str, bool]], value: str, start: int) -> list[int]:
    """Where a match that begins at `start` may end, in order."""
    ends = [start]
    for char, special in pattern:
        if not ends:
            break
        if (char, special) == STAR:
            ends = list(range(ends[0], len(value) + 1))
        elif special:
            ends = [end + 1 for end in ends if end < len(value)]
        else:
            ends = [end + 1 for end in ends if end < len(value) and value[end] == char]
    return ends


def trim_start(pattern: str, value: str, *, longest: bool) -> str:
    """`value` without the shortest (or longest) beginning that matches."""
    ends = _ends(tokens(pattern), value, 0)
    return value[ends[-1 if longest else 0] :] if ends else value


def trim_end(pattern: str, value: str, *, longest: bool) -> str:
    """`value` without the shortest (or longest) end that matches."""
    ends = _ends(tokens(pattern)[::-1], value[::-1], 0)
    return value[: len(value) - ends[-1 if longest else 0]] if ends else value


def replace(pattern: str, value: str, replacement: str, *, everywhere: bool) -> str:
    """`value` with the first (or every) longest match replaced.

    An empty match counts, but not directly behind another one (as Go's regexp has it, which BuildKit uses).
    """
    wanted = tokens(pattern)
    if STAR in wanted:
        return _replace_one(wanted, value, replacement)
    parts: list[str] = []
    position = start = 0
    last_end = -1
    while position <= len(value):
        ends = _ends(wanted, value, position)
        if not ends or ends[-1] == last_end:
            position += 1
            continue
        parts.extend((value[start:position], replacement))
        start = last_end = ends[-1]
        if not everywhere:
            break
        position = max(start, position + 1)
    return "".join(parts) + value[start:]


def _replace_one(wanted: list[tuple[str, bool]], value: str, replacement: str) -> str:
    """With a ``*`` there is one match at most: what follows the star matches as late as it can, or nowhere.

    So the first place where the pattern's part before its first star matches decides.
    """
    head = wanted[: wanted.index(STAR)]
    for position in range(len(value) - len(head) + 1):
        if _ends(head, value, position):
            ends = _ends(wanted, value, position)
            return value[:position] + replacement + value[ends[-1] :] if ends else value
    return value
