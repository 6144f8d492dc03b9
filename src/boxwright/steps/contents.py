"""A package's metadata, taken from its files as they were built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from boxwright.model.step import BuildPackage
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from boxwright.ports import TreeFile
from boxwright.steps.elf import read_elf

KINDS = {DIRECTORY: "directory", FILE: "file", SYMLINK: "link", HARDLINK: "hardlink"}


def part_patterns(step: BuildPackage) -> list[tuple[str, re.Pattern[str], bool]]:
    """For each glob of the parts: the part, what matches, and whether it is for symbolic links alone."""
    return [
        (part, re.compile(glob_pattern(glob.removesuffix("@").lstrip("/"))), glob.endswith("@"))
        for part, globs in step.parts
        for glob in globs
    ]


def glob_pattern(glob: str) -> str:
    """A glob as a regular expression: ``**`` is any number of directories, ``*`` and ``?`` stay in one name."""
    text = re.escape(glob).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + r"\Z"


def contents(step: BuildPackage, files: Iterable[TreeFile]) -> dict[str, Any]:
    """`files` (all but directories that only hold others), `needs` and `provides`, as the metadata has them."""
    patterns = part_patterns(step)
    listed: list[dict[str, Any]] = []
    needs: dict[str, dict[str, set[str]]] = {}
    provides: dict[str, dict[str, Any]] = {}
    for found in files:
        if not found.path:
            continue
        listed.append(_described(found.path, found.entry, patterns))
        if found.entry.kind != FILE or found.physical is None or found.path.startswith("usr/lib/debug/"):
            continue
        elf = read_elf(found.physical) if found.entry.size >= 52 else None
        if elf is None:
            continue
        for soname in elf.needed:
            needs.setdefault(soname, {"by": set(), "versions": set()})["by"].add(found.path)
        for soname, version in elf.versions:
            needs.setdefault(soname, {"by": set(), "versions": set()})["versions"].add(version)
        if elf.interpreter:
            listed[-1]["interpreter"] = elf.interpreter
        if elf.soname:
            provides[elf.soname] = {"path": found.path, "versions": list(elf.defines)}
    return {
        "files": listed,
        "needs": {
            soname: {key: sorted(values) for key, values in found.items()} for soname, found in sorted(needs.items())
        },
        "provides": dict(sorted(provides.items())),
    }


def _described(path: str, entry: Entry, patterns: list[tuple[str, re.Pattern[str], bool]]) -> dict[str, Any]:
    item: dict[str, Any] = {"path": path, "kind": KINDS[entry.kind], "mode": f"{entry.mode:04o}"}
    if entry.uid or entry.gid:
        item["owner"] = [entry.uid, entry.gid]
    if entry.kind == FILE:
        item.update(size=entry.size, sha256=entry.data)
    elif entry.kind in (SYMLINK, HARDLINK):
        item["target"] = entry.data
    if entry.kind != DIRECTORY:
        part = next(
            (part for part, pattern, links in patterns if pattern.match(path) and (not links or entry.kind == SYMLINK)),
            "",
        )
        if part:
            item["part"] = part
    return item
