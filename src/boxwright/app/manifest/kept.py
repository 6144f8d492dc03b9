"""Graphs of manifests, kept between runs: a build with nothing to do renders no template and reads no YAML.

What is kept holds as long as every file that was looked at looks the same, the variables that were asked for are the
same, and every base means the same; this program's own frontend too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from boxwright.app.packagefiles import stamp
from boxwright.frontends.manifest.made import BuiltEntry, ManifestGraph
from boxwright.model import graph, image, span, step
from boxwright.ports import ResolvedBase, Resolver

FORMAT = 1
_CLASSES: Mapping[str, Any] = {
    kind.__name__: kind
    for module in (graph, image, span, step)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
} | {"ManifestGraph": ManifestGraph, "BuiltEntry": BuiltEntry, "ResolvedBase": ResolvedBase}


class Kept(NamedTuple):
    """A graph with the directories of its contexts."""

    manifest: ManifestGraph
    contexts: Mapping[str, str]


def encode(value: object) -> object:
    """A value of named tuples, tuples, texts and numbers as JSON has it."""
    if isinstance(value, tuple):
        head = type(value).__name__ if hasattr(value, "_fields") else ""
        return [head, *(encode(item) for item in value)]
    return value


def decode(value: Any) -> Any:  # noqa: ANN401 - whatever was encoded
    """The other way."""
    if type(value) is not list:
        return value
    items = [decode(item) for item in value[1:]]
    return _CLASSES[value[0]](*items) if value[0] else tuple(items)


def load(path: str, resolver: Resolver, environment: Mapping[str, str]) -> Kept | None:
    """What was kept, where it still holds."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if data["format"] != FORMAT or data["frontend"] != frontend_stamp():
            return None
        if any(look(name) != seen for name, seen in data["looked"].items()):
            return None
        if any(environment.get(name) != value for name, value in data["asked"].items()):
            return None
        top = span.Span("", 1)
        for name, platform, answer in data["bases"]:
            if resolver.base(name, platform, top) != decode(answer):
                return None
        return Kept(decode(data["manifest"]), data["contexts"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def look(path: str) -> str:
    """What a path looks like; of a directory only that it is one."""
    return "directory" if os.path.isdir(path) else stamp(path)


def save(
    path: str,
    kept: Kept,
    looked: Mapping[str, str],
    asked: Mapping[str, str | None],
    bases: Mapping[tuple[str, str], ResolvedBase],
) -> None:
    """Keep a graph; a store that can't be written is no reason to fail."""
    data = {
        "format": FORMAT,
        "frontend": frontend_stamp(),
        "looked": {name: look(name) if seen == "directory" else seen for name, seen in looked.items()},
        "asked": dict(asked),
        "bases": [[name, platform, encode(answer)] for (name, platform), answer in bases.items()],
        "contexts": dict(kept.contexts),
        "manifest": encode(kept.manifest),
    }
    part = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(part, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.rename(part, path)
    except OSError:
        return


def frontend_stamp() -> str:
    """Changes whenever the code that makes graphs of manifests does."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    found = []
    for room in ("frontends/manifest", "frontends/container", "frontends/package", "frontends/recipe", "model"):
        status = os.stat(f"{here}/{room}")
        newest = max(entry.stat().st_mtime_ns for entry in os.scandir(f"{here}/{room}") if entry.is_file())
        found.append(f"{status.st_mtime_ns} {newest}")
    return " ".join(found)
