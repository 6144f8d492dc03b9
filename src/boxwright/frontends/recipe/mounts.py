"""``RUN --mount`` (the reference, "RUN --mount")."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from boxwright.frontends.recipe.keywords import BOOLEANS, flag_values
from boxwright.frontends.recipe.problem import nearest, wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.model.span import Span
from boxwright.model.step import Mount

_KEYS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"target", "source", "from", "readonly", "readwrite", "id"}),
    "cache": frozenset({"target", "source", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"}),
    "tmpfs": frozenset({"target", "source", "from", "readonly", "readwrite", "id", "size"}),
    "secret": frozenset({"target", "source", "readonly", "readwrite", "id", "required", "mode", "uid", "gid", "env"}),
    "ssh": frozenset({"target", "from", "readonly", "readwrite", "id", "required", "mode", "uid", "gid"}),
}
# What BuildKit takes with every type, but has no use for with this one.
_UNUSED: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"id"}),
    "cache": frozenset(),
    "tmpfs": frozenset({"source", "from", "readonly", "id"}),
    "secret": frozenset({"readonly"}),
    "ssh": frozenset({"from", "readonly"}),
}
_ALIASES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = frozenset({"readonly", "readwrite", "required"})
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([bkmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_FIELD = re.compile(r'"((?:[^"]|"")*)"(?:,|\Z)|([^,"]*)(?:,|\Z)')


def mounts(state: StageState, instruction: Instruction) -> tuple[Mount, ...]:
    """The mounts of a RUN, in order. Variables are replaced in every value but that of ``from``."""
    return tuple(_mount(state, text, instruction.span) for text in flag_values(instruction.flags, "mount"))


def _mount(state: StageState, text: str, where: Span) -> Mount:
    options: dict[str, str] = {}
    for item in _fields(text, where):
        key, equals, value = item.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if key == "from" and "$" in value:
            raise wrong("--mount: from= takes no variable", where)
        options[key] = state.expand(value, where) if equals else "true"
        if key not in _SWITCHES and not equals:
            raise wrong(f"--mount: {key!r} needs a value", where)
    kind = options.pop("type", "bind").lower()
    if kind not in _KEYS:
        raise wrong(f"--mount: there is no type {kind!r}", where, hint=nearest(kind, _KEYS))
    for key in options:
        if key not in _KEYS[kind]:
            message = f"--mount=type={kind} takes no {key!r}"
            raise wrong(message, where, hint=nearest(key, _KEYS[kind]))
    _normalise(options, where)
    for key in _UNUSED[kind]:
        options.pop(key, None)
    target = _target(kind, options, where)
    return Mount(kind, state.absolute(target).rstrip("/") if target else "", tuple(sorted(options.items())))


def _fields(text: str, where: Span) -> list[str]:
    """Comma-separated values; a field in double quotes may hold commas."""
    found: list[str] = []
    position = 0
    while position < len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise wrong(f"--mount={text} is not understood", where, hint="--mount=type=TYPE,target=PATH,...")
        found.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        position = match.end()
    return found


def _normalise(options: dict[str, str], where: Span) -> None:
    for key in _SWITCHES & options.keys():
        if options[key].lower() not in BOOLEANS:
            raise wrong(f"--mount: {key} is true or false, not {options[key]!r}", where)
        options[key] = "true" if BOOLEANS[options[key].lower()] else "false"
    if "readwrite" in options:
        options["readonly"] = "false" if options.pop("readwrite") == "true" else "true"
    if "sharing" in options:
        options["sharing"] = options["sharing"].lower()
    if options.get("sharing", "shared") not in {"shared", "private", "locked"}:
        raise wrong(f"--mount: sharing is shared, private or locked, not {options['sharing']!r}", where)
    for key in {"uid", "gid", "mode"} & options.keys():
        if re.fullmatch(r"0[0-7]{0,6}|[0-7]{1,6}" if key == "mode" else r"[0-9]{1,10}", options[key]) is None:
            raise wrong(f"--mount: {key}={options[key]} is no number", where)
    if "size" in options:
        match = _SIZE.fullmatch(options["size"])
        if match is None:
            raise wrong(f"--mount: size={options['size']} is no size", where, hint="write it like 64m")
        options["size"] = str(int(float(match[1]) * _UNITS[match[2].lower()]))


def _target(kind: str, options: dict[str, str], where: Span) -> str:
    """The path; a secret has one by default, an ssh socket's is known when it runs. Names get their defaults here."""
    target = options.pop("target", "")
    if target and not target.strip("/"):
        raise wrong("--mount: nothing can be mounted on /", where)
    if kind == "secret":
        return _secret(options, target, where)
    if not target and kind != "ssh":
        raise wrong(f"--mount=type={kind} needs a target", where)
    if kind == "cache":
        options["id"] = options.get("id") or posixpath.normpath(target)
        if not options.get("from"):
            if options.get("source", "/").strip("/"):
                raise wrong("--mount=type=cache: source is a path in what from names", where)
            options.pop("source", None)
    return target


def _secret(options: dict[str, str], target: str, where: Span) -> str:
    """``source`` is another word for ``id``, whose default is the target's name."""
    source = options.pop("source", "")
    if source and options.get("id"):
        raise wrong("--mount=type=secret takes id or source, not both", where)
    options["id"] = source or options.get("id") or posixpath.basename(target)
    name = posixpath.basename(options["id"])
    if not options["id"] or (not target and name in {"", ".", ".."}):
        raise wrong("--mount=type=secret needs an id", where)
    if "env" in options:
        if not options["env"] or "=" in options["env"]:
            raise wrong(f"--mount: env={options['env']} is no name of a variable", where)
        return target
    return target or f"/run/secrets/{name}"
