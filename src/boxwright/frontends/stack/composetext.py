"""What a Compose file's text may hold beside YAML: variables, and mappings merged into others."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map

from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value
from boxwright.frontends.stack.problem import wrong

MERGE = "<<"
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)(?:(:?[-?+])([^}]*))?\}|(.?))")


def interpolated(value: Value, variables: Map[str, str]) -> Value:
    """Every text with its variables (Compose specification, "Interpolation"), and ``<<`` merged in.

    Raises `stack.variable` for one that must be set and is not, and for a form that is none.
    """
    if isinstance(value, Scalar):
        return value._replace(text=_text(value, variables)) if "$" in value.text else value
    if isinstance(value, Sequence):
        return value._replace(items=tuple(interpolated(item, variables) for item in value.items))
    items: dict[str, Value] = {}
    keys = dict(value.keys)
    for merged in _merged(value):
        for key, item in merged.items.items():
            items.setdefault(key, interpolated(item, variables))
            keys.setdefault(key, merged.keys[key])
    items |= {key: interpolated(item, variables) for key, item in value.items.items() if key != MERGE}
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


def _text(value: Scalar, variables: Map[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        name = found[2] or found[3]
        if not name:
            hint = "a $ that is meant is written $$"
            raise wrong("variable", f"${found[6] or ''} is no variable", value.place.span, hint=hint)
        given, kind, more = variables.get(name), found[4] or "", found[5] or ""
        there = given is not None and not (kind.startswith(":") and not given)
        if kind.endswith("?") and not there:
            raise wrong(
                "variable", f"{name} must be set: {more}", value.place.span, hint=f"{name}=... boxwright deploy"
            )
        if kind.endswith("+"):
            return more if there else ""
        if kind.endswith("-") and not there:
            return more
        return given or ""

    return _VARIABLE.sub(replaced, value.text)


def env_file(text: str) -> dict[str, str]:
    """The variables of an env file: ``NAME=VALUE`` lines, ``#`` comments, quotes around values."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or "=" not in stripped:
            continue
        name, _, value = stripped.removeprefix("export ").partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    return found
