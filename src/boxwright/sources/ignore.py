"""Which paths of a build context are left out (the Dockerfile reference, ".dockerignore file").

Rules count in order and the last one that matches decides. A rule that matches a directory holds for all below it; an
exception (``!``) holds for what is below a directory only where that directory would have been left out without it, as
BuildKit has it. Neighbouring rules of one kind are one regular expression, and what a directory's rules came to is kept
while its children are asked for, so a path costs one or two matches.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.model.glob import glob_to_regex
from boxwright.model.span import Span

__all__ = ["IgnoreRules", "glob_to_regex"]

WILD = frozenset("*?[]\\")
ANY = glob_to_regex("*")
MOST_STARS = 6


class Rule(NamedTuple):
    """One line: `pattern` without its ``!``."""

    pattern: str
    exception: bool


class _Group(NamedTuple):
    """Neighbouring rules of one kind. `bit` marks a directory that the group matched."""

    matches: re.Pattern[str]
    exception: bool
    bit: int


class IgnoreRules:
    """The rules of one .dockerignore file."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._groups = _groups(rules)
        exceptions = [_prefix_regex(rule.pattern) for rule in rules if rule.exception]
        self._below = re.compile("|".join(exceptions), re.DOTALL) if exceptions else None
        self._directories: dict[str, int] = {"": 0}

    @classmethod
    def parse(cls, text: str, file: str = ".dockerignore") -> IgnoreRules:
        """Read the file's text. Raises DefinitionError `ignore.pattern` naming the line."""
        rules: list[Rule] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            rule = None if line.startswith("#") else _rule(line.strip(), Span(file, number, 1, number))
            if rule is not None:
                rules.append(rule)
        return cls(rules)

    def ignored(self, path: str) -> bool:
        """Whether `path` (relative, with slashes) is left out."""
        return self._matched(path) < 0

    def may_hold_kept(self, directory: str) -> bool:
        """Whether something below `directory`, which is left out, may be kept by an exception."""
        return self._below is not None and self._below.fullmatch(directory) is not None

    def _matched(self, path: str) -> int:
        """The bits of the groups that hold for `path`, inverted (and so negative) where it is left out."""
        parent = path.rpartition("/")[0]
        inherited = self._directories.get(parent)
        if inherited is None:
            inherited = self._bits(parent)
        bits = 0
        left_out = False
        for group in self._groups:
            if inherited & group.bit or (group.exception is left_out and group.matches.fullmatch(path) is not None):
                bits |= group.bit
                left_out = not group.exception
        return ~bits if left_out else bits

    def _bits(self, directory: str) -> int:
        """The bits of `directory`; its parents are worked out first, without recursion."""
        end = 0
        bits = 0
        while end >= 0:
            end = directory.find("/", end + 1)
            parent = directory if end < 0 else directory[:end]
            known = self._directories.get(parent)
            if known is None:
                matched = self._matched(parent)
                known = self._directories[parent] = matched if matched >= 0 else ~matched
            bits = known
        return bits


def _rule(line: str, where: Span) -> Rule | None:
    exception = line.startswith("!")
    pattern = line[1:].strip() if exception else line
    if not pattern:
        if exception:
            raise DefinitionError("ignore.pattern", "'!' stands alone", hint="write the pattern after it", where=where)
        return None
    pattern = posixpath.normpath(pattern)
    if len(pattern) > 1:
        pattern = pattern.lstrip("/")
    try:
        glob_to_regex(pattern)
        re.compile(_regex(pattern))
    except (ValueError, re.error) as error:
        message = f"{line!r} is not a pattern"
        raise DefinitionError("ignore.pattern", message, hint=str(error), where=where) from error
    return Rule(pattern, exception)


def _groups(rules: Sequence[Rule]) -> tuple[_Group, ...]:
    """The rules in order, neighbours of one kind joined."""
    joined: list[tuple[bool, list[str]]] = []
    for rule in rules:
        if not joined or joined[-1][0] is not rule.exception:
            joined.append((rule.exception, []))
        joined[-1][1].append(_regex(rule.pattern))
    return tuple(
        _Group(re.compile("|".join(parts), re.DOTALL), exception, 1 << number)
        for number, (exception, parts) in enumerate(joined)
    )


def _regex(pattern: str) -> str:
    """A regular expression for fullmatch, as Moby's patternmatcher reads `pattern`."""
    if pattern.startswith("**") and WILD.isdisjoint(pattern[2:]) and not pattern.startswith("**/"):
        return ".*" + re.escape(pattern[2:])
    components = _components(pattern)
    if any(("**" in component and component != "**") or "/" in component for component in components):
        if pattern.count("*") > MOST_STARS:
            # Where each may match can't be settled from left to right: time grows with the power of their number.
            raise ValueError("too many '*' beside a '**' that shares its component with other characters")
        return "".join(_tokens(pattern))
    segments: list[list[str]] = [[]]
    for number, component in enumerate(components):
        if component != "**":
            segments[-1].append(_component(component))
        elif number == 0 or components[number - 1] != "**":
            segments.append([])
    return _joined(["/".join(segment) for segment in segments])


def _joined(segments: list[str]) -> str:
    """What stands between the ``**`` of a pattern.

    All but the last are matched as early as possible and for good: a later place would match no more, and trying each
    takes time that grows with the power of their number.
    """
    if len(segments) == 1:
        return segments[0]
    first, *middle, last = segments
    parts = [f"{first}/" if first else ""]
    parts += [f"(?>(?:.*?/)??{segment}/)" for segment in middle]
    parts.append(f"(?:.*/)?{last}" if last else ".*")
    return "".join(parts)


def _component(component: str) -> str:
    """One component without ``**``; all but its last ``*`` are matched as early as possible, likewise for good."""
    parts: list[str] = []
    star = -1
    for token in _tokens(component):
        if token == ANY:
            if star >= 0:
                parts[star] = f"(?>{ANY}?"
                parts.append(")")
            star = len(parts)
        parts.append(token)
    return "".join(parts)


def _tokens(pattern: str) -> list[str]:
    """A regular expression for each element of a pattern."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position = _after_stars(pattern, position)
            parts.append(".*" if position == len(pattern) else "(?:.*/)?")
        elif pattern[position] == "[":
            end = _class_end(pattern, position)
            parts.append(glob_to_regex(pattern[position:end]))
            position = end
        else:
            width = 2 if pattern[position] == "\\" else 1
            parts.append(glob_to_regex(pattern[position : position + width]))
            position += width
    return parts


def _after_stars(pattern: str, position: int) -> int:
    """Behind ``**``, its slash, and all that follow at once: they mean the same, and would only cost time."""
    while pattern.startswith("**", position):
        position += 2
        position += pattern.startswith("/", position)
    return position


def _components(pattern: str) -> list[str]:
    """The components between slashes; one that is escaped or stands in a class ends none."""
    if "[" not in pattern and "\\" not in pattern:
        return pattern.split("/")
    found: list[str] = []
    start = position = 0
    while position < len(pattern):
        if pattern[position] == "[":
            position = _class_end(pattern, position)
            continue
        if pattern[position] == "/":
            found.append(pattern[start:position])
            start = position + 1
        position += 2 if pattern[position] == "\\" else 1
    return [*found, pattern[start:]]


def _class_end(pattern: str, position: int) -> int:
    """Behind the bracket that closes the class at `position`."""
    start = position + 1 + pattern.startswith("^", position + 1)
    here = start
    while here < len(pattern) and (pattern[here] != "]" or here == start):
        here += 2 if pattern[here] == "\\" else 1
    return here + 1


def _prefix_regex(pattern: str) -> str:
    """A regular expression that matches each directory below which `pattern` may match."""
    parts: list[str] = []
    closing = ""
    components = _components(pattern)
    for number, component in enumerate(components):
        if "**" in component or "/" in component:
            parts.append(".*")
            break
        if number == len(components) - 1:
            break
        parts.append(_regex(component) + "(?:/" if number < len(components) - 2 else _regex(component))
        closing += ")?" if number < len(components) - 2 else ""
    return "".join(parts) + closing if parts else "(?!)"
