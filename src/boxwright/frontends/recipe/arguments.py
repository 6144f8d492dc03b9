"""How the arguments of instructions are taken apart, before variables are replaced."""

from __future__ import annotations

import re

from boxwright.frontends.recipe.blanks import BLANK, BLANKS, split
from boxwright.frontends.recipe.problem import wrong
from boxwright.model.span import Span

# No possessive quantifiers: those of Python before 3.11.5 match wrongly around groups.
_STRING = r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"'
_GAP = "[ \t\r\n]*"
_STRINGS = re.compile(rf"\[{_GAP}(?:{_STRING}{_GAP}(?:,{_GAP}{_STRING}{_GAP})*)?\]")
_SPACE = re.compile(r"[\t\v\f\r ]+")
_DURATION = re.compile(r"\+?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def exec_form(rest: str) -> tuple[str, ...] | None:
    """A JSON array of strings (the reference, "Exec form"); None for everything else, which is the shell form."""
    rest = rest.strip(BLANK)
    if not rest.startswith("[") or _STRINGS.fullmatch(rest) is None:
        return None
    import json

    values: list[str] = json.loads(rest)
    # A lone surrogate has no bytes; Go's reader replaces it.
    return tuple(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for value in values)


def is_mixed_list(rest: str) -> bool:
    """Whether this is a JSON array that holds more than strings, which is neither of the forms."""
    if _STRINGS.fullmatch(rest.strip(BLANK)) is not None:
        return False
    import json

    try:
        found = json.loads(rest, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and not all(isinstance(item, str) for item in found)


def _no_constant(name: str) -> object:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


def words_or_list(rest: str) -> tuple[str, ...]:
    """Exec form, or words between white space where quotes mean nothing (COPY, ADD, VOLUME)."""
    listed = exec_form(rest)
    return tuple(_SPACE.split(rest)) if listed is None else listed


def quoted_words(rest: str, escape: str) -> list[str]:
    """Words between white space; quotes and escapes stay in them and keep white space (ENV, LABEL, ARG)."""
    if not any(mark in rest for mark in ("'", '"', escape)):
        return split(rest)
    words: list[str] = []
    start = -1
    quote = ""
    position = 0
    while position < len(rest):
        char = rest[position]
        if start < 0:
            if char in BLANKS:
                position += 1
                continue
            start = position
        if char == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in BLANKS:
            words.append(rest[start:position])
            start = -1
        position += 1
    if start >= 0:
        words.append(rest[start:])
    return words


def pairs(keyword: str, rest: str, escape: str, where: Span) -> list[tuple[str, str]]:
    """``NAME=VALUE ...``, or the old form ``NAME VALUE`` (the reference, ENV and LABEL)."""
    words = quoted_words(rest, escape)
    if words and "=" not in words[0]:
        parts = _SPACE.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise wrong(f"{keyword} {rest} gives no value", where, hint=f"{keyword} NAME=VALUE")
        return [(parts[0], parts[1])]
    found = [word.partition("=") for word in words]
    for name, equals, _ in found:
        if not equals:
            raise wrong(f"{keyword}: there is no = in {name!r}", where, hint="quote a value that holds white space")
        if not name:
            raise wrong(f"{keyword}: a name is missing before =", where)
    return [(name, value) for name, _, value in found]


def duration(text: str, where: Span) -> int:
    """A time such as ``1m30s`` in nanoseconds (Go's time.ParseDuration). Raises DefinitionError."""
    if text in {"0", "+0", "-0"}:
        return 0
    total = 0.0
    position = 0
    while position < len(text):
        match = _DURATION.match(text, position)
        if match is None:
            break
        unit = match[0].lstrip("+0123456789.")
        total += float(match[0][: -len(unit)]) * _UNITS[unit]
        position = match.end()
    if position < len(text) or not text or total >= 2**63:
        raise wrong(f"{text!r} is no time", where, hint="write it like 30s or 1m30s")
    return int(total)
