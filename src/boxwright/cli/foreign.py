"""What users of other builders bring along: their flags and spellings become ours, mean nothing, or are answered."""

from __future__ import annotations

import argparse
import re
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from boxwright.cli.console import note
from boxwright.errors import UsageError

ENGINES = frozenset({"docker", "podman", "lxd"})
TRUE = frozenset({"true", "1", "t"})
FALSE = frozenset({"false", "0", "f"})
_EXPORTERS = {"oci": "oci-archive", "docker": "docker-archive", "tar": "tar", "local": "rootfs"}
_LAYERS = re.compile(r"flat|auto(:\d+)?|instructions")
_STORE = frozenset({"image", "cacheonly"})
_IN_THE_STORE = "the image is kept in the store; --load docker loads it into docker"


class Adapted(NamedTuple):
    """The command line in our own words, and notes of what was left out."""

    words: tuple[str, ...]
    notes: tuple[str, ...]


def adapted(given: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The command line in our own words. Raises UsageError `usage.foreign-flag`."""
    words, notes = adapt(given, parser)
    for text in dict.fromkeys(notes):
        note(text)
    return list(words)


def adapt(given: Sequence[str], parser: argparse.ArgumentParser) -> Adapted:
    """The same, with the notes as values."""
    left = deque(given)
    words: list[str] = []
    notes: list[str] = []
    contexts: list[str] = []
    while left:
        word = left.popleft()
        if word == "--":
            words += [word, *left]
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
        else:
            _one(word, left, parser, words, notes, contexts)
    return Adapted((*words, *contexts), tuple(notes))


def _one(
    word: str,
    left: deque[str],
    parser: argparse.ArgumentParser,
    words: list[str],
    notes: list[str],
    contexts: list[str],
) -> None:
    name, equals, value = word.partition("=")
    action = parser._option_string_actions.get(name)  # noqa: SLF001 - as above
    if action is not None and action.nargs == 0:
        words += _switch(name, value, notes) if equals else [word]
    elif name == "--layers":
        words += _layers(value if equals else None, left)
    elif name == "--load":
        words += _load(value if equals else None, left, notes)
    elif name in ("-o", "--output"):
        words += _output(value if equals else _next(left, name), name, notes)
    elif action is not None:
        words.append(word)
        if not equals:
            words.append(_next(left, name))
    else:
        _foreign(word, left, words, notes, contexts)


def _switch(name: str, value: str, notes: list[str]) -> list[str]:
    """A flag without a value, as Go's programs write it: ``--pull=true``."""
    if name == "--pull" and value in ("always", "newer"):
        return [name]
    if name == "--pull" and value in ("missing", "never"):
        notes.append("--pull: what was fetched once is used until --pull asks for it again")
        return []
    if value not in TRUE | FALSE:
        raise UsageError("usage.value", f"{name}={value}: true or false is expected")
    return [name] if value in TRUE else []


def _layers(value: str | None, left: deque[str]) -> list[str]:
    """Alone it is a switch, as buildah has it; a word that names a choice of layers belongs to it."""
    if value is None and left and _LAYERS.fullmatch(left[0]):
        value = left.popleft()
    if value in FALSE:
        return []
    return ["--layers", "instructions" if value is None or value in TRUE else value]


def _load(value: str | None, left: deque[str], notes: list[str]) -> list[str]:
    """Ours names an engine; buildx's is a switch."""
    engine = value if value is not None else (left[0] if left else "")
    if engine in ENGINES:
        if value is None:
            left.popleft()
        return ["--load", engine]
    if value is not None and value not in TRUE | FALSE:
        return ["--load", value]
    if value not in FALSE:
        notes.append(f"--load: {_IN_THE_STORE}")
    return []


def _next(left: deque[str], name: str) -> str:
    if not left:
        raise UsageError("usage.value", f"{name} needs a value")
    return left.popleft()


def _output(value: str, name: str, notes: list[str]) -> list[str]:
    """What buildx writes as ``type=tar,dest=FILE``, in our words."""
    if "=" not in value.partition(",")[0]:
        return [name, value]
    fields = dict(item.partition("=")[::2] for item in value.split(","))
    kind, destination = fields.pop("type", ""), fields.pop("dest", "")
    if kind == "registry" or (kind == "image" and fields.get("push", "false") in TRUE):
        return [*(word for name in fields.get("name", "").split(",") if name for word in ("--tag", name)), "--push"]
    if (kind in _STORE and fields.get("push", "false") in FALSE) or (kind == "docker" and not destination):
        notes.append(f"{name} {value}: {_IN_THE_STORE}")
        return []
    if kind not in _EXPORTERS or not destination:
        hint = "-o TYPE:DEST, such as oci-archive:image.tar; boxwright export --help lists the types"
        raise UsageError("usage.foreign-flag", f"{name} {value} is not taken", hint=hint)
    return ["--output", f"{_EXPORTERS[kind]}:{destination}"]


def _foreign(word: str, left: deque[str], words: list[str], notes: list[str], contexts: list[str]) -> None:
    name, equals, value = word.partition("=")
    table = _table()
    if name in table["taken"] or name in table["taken-with-value"]:
        said = table["taken"].get(name) or table["taken-with-value"].get(name)
        if name in table["taken-with-value"] and not equals:
            _next(left, name)
        if said and value not in FALSE:
            notes.append(f"{name}: {said}")
        return
    if name in table["instead"] or name in table["instead-with-value"]:
        hint = f"instead: {table['instead'].get(name) or table['instead-with-value'].get(name)}"
        raise UsageError("usage.foreign-flag", f"{name} is another builder's", hint=hint)
    if name not in table["ours"]:
        words.append(word)  # the parser says that it doesn't know it
        return
    given = value if equals else _next(left, name)
    ours = table["ours"][name]
    if not ours:
        contexts.append(given.removeprefix("dir://").removeprefix("tar://"))
    elif "=" in ours:
        words.append(ours + given)
    else:
        words += [ours, given]


@cache
def _table() -> dict[str, dict[str, str]]:
    import tomllib

    with (Path(__file__).parent / "foreign.toml").open("rb") as file:
        return tomllib.load(file)
