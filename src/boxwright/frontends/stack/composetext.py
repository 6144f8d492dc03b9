"""What a Compose file's text may hold beside YAML: variables, and mappings merged into others."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Map

from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence, Value
from boxwright.frontends.stack.problem import wrong
from boxwright.model.span import Span

MERGE = "<<"
MOST_DEPTH = 50
"""Defaults inside of defaults."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KIND = re.compile(r":?[-?+]")
_BRACE = re.compile(r"\$\{|\}")

Unset = Callable[[str, Place], None]


def interpolated(value: Value, variables: Map[str, str], unset: Unset) -> Value:
    """Every text with its variables (Compose specification, "Interpolation"), and ``<<`` merged in.

    `unset` is told of those that are not set where nothing is said for that. Raises `stack.variable` for one that must
    be set and is not, and for a form that is none.
    """
    if isinstance(value, Scalar):
        if "$" not in value.text:
            return value
        text = substitute(value.text, variables, value.place.span, lambda name: unset(name, value.place))
        return Scalar(text, value.place)  # an empty one is a value too
    if isinstance(value, Sequence):
        return value._replace(items=tuple(interpolated(item, variables, unset) for item in value.items))
    items: dict[str, Value] = {}
    keys = dict(value.keys)
    for merged in _merged(value):
        for key, item in merged.items.items():
            if key not in items and key not in value.items:
                items[key] = interpolated(item, variables, unset)
                keys.setdefault(key, merged.keys[key])
    items |= {key: interpolated(item, variables, unset) for key, item in value.items.items() if key != MERGE}
    keys.pop(MERGE, None)
    return Mapping(items, value.place, keys)


def _merged(value: Mapping) -> list[Mapping]:
    given = value.items.get(MERGE)
    if given is None:
        return []
    found = given.items if isinstance(given, Sequence) else (given,)
    result: list[Mapping] = []
    for it in found:
        if not isinstance(it, Mapping):
            raise wrong("type", "what is merged with << must be a mapping", it.place.span)
        result += [it, *_merged(it)]
    return [Mapping({k: v for k, v in it.items.items() if k != MERGE}, it.place, it.keys) for it in result]


def substitute(text: str, variables: Map[str, str], where: Span, unset: Callable[[str], None], depth: int = 0) -> str:
    """A text with its variables: ``$NAME``, ``${NAME}``, and with ``:-``, ``-``, ``:?``, ``?``, ``:+``, ``+`` and more.

    What follows those may hold variables itself; ``$$`` is a ``$``. Raises `stack.variable`.
    """
    if depth > MOST_DEPTH:
        raise wrong("variable", f"more than {MOST_DEPTH} variables inside of each other", where)
    result: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        result.append(text[at:dollar])
        if text.startswith("$$", dollar):
            result.append("$")
            at = dollar + 2
        elif text.startswith("${", dollar):
            end = _closing(text, dollar)
            inner = text[dollar + 2 : end]
            if end < 0:
                raise _no_variable(text[dollar:], where)
            result.append(_braced(inner, variables, where, unset, depth))
            at = end + 1
        else:
            name = _NAME.match(text, dollar + 1)
            if name is None:
                raise _no_variable(text[dollar : dollar + 2], where)
            result.append(_value(name[0], variables, unset))
            at = name.end()
    return "".join((*result, text[at:]))


def _closing(text: str, start: int) -> int:
    """Where the brace of the ``${`` at `start` is closed; below 0 where it isn't."""
    opened = 0
    for found in _BRACE.finditer(text, start):
        opened += 1 if found[0] == "${" else -1
        if not opened:
            return found.start()
    return -1


def _braced(inner: str, variables: Map[str, str], where: Span, unset: Callable[[str], None], depth: int) -> str:
    """What stands between braces."""
    name = _NAME.match(inner)
    kind = _KIND.match(inner, name.end()) if name else None
    if name is None or (kind is None and name.end() < len(inner)):
        raise _no_variable(f"${{{inner}}}", where)
    if kind is None:
        return _value(name[0], variables, unset)
    given = variables.get(name[0])
    there = given is not None and not (kind[0].startswith(":") and not given)

    rest = inner[kind.end() :]

    def more() -> str:
        return substitute(rest, variables, where, unset, depth + 1)

    if kind[0].endswith("+"):
        return more() if there else ""
    if there:
        return given or ""
    if kind[0].endswith("?"):
        hint = f"{name[0]}=... boxwright deploy"
        raise wrong("variable", f"{name[0]} must be set: {more()}", where, hint=hint)
    return more()


def _value(name: str, variables: Map[str, str], unset: Callable[[str], None]) -> str:
    given = variables.get(name)
    if given is None:
        unset(name)
    return given or ""


def _no_variable(text: str, where: Span) -> Exception:
    hint = "a $ that is meant is written $$"
    return wrong("variable", f"{text[:60]} is no variable", where, hint=hint)
