"""Shared libraries that packages need, and the distribution's packages in a toolchain's tree that have them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from boxwright.model.image import Snapshot
from boxwright.model.tree import FILE, SYMLINK
from boxwright.ports import TreeFile
from boxwright.steps.elf import read_elf

LISTS = "var/lib/dpkg/info/"
STATUS = "var/lib/dpkg/status"
SMALLEST = 52
TO_USR = ("/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/")


class Reader(Protocol):
    """Reads snapshots."""

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path of a snapshot."""
        ...


class Libraries(NamedTuple):
    """Of some trees: the sonames that they need, those that they have, and names of files that could be loaded."""

    needed: frozenset[str]
    provided: frozenset[str]


def libraries_of(reader: Reader, snapshots: Iterable[Snapshot]) -> Libraries:
    """What the ELF files of these trees need and have, by reading them."""
    needed: set[str] = set()
    provided: set[str] = set()
    for snapshot in snapshots:
        for found in reader.walk(snapshot):
            name = found.path.rpartition("/")[2]
            if ".so" in name and found.entry.kind in (FILE, SYMLINK):
                provided.add(name)
            if found.entry.kind != FILE or found.physical is None or found.entry.size < SMALLEST:
                continue
            if found.path.startswith("usr/lib/debug/"):
                continue
            elf = read_elf(found.physical)
            if elf is not None:
                needed.update(elf.needed)
                needed.update([os.path.basename(elf.interpreter)] if elf.interpreter else [])
                provided.update([elf.soname] if elf.soname else [])
    return Libraries(frozenset(needed), frozenset(provided))


class Distribution:
    """The packages that dpkg knows in a tree, as they lie there."""

    def __init__(self, reader: Reader, snapshot: Snapshot) -> None:
        self._physical: dict[str, str] = {}
        self._links: dict[str, str] = {}
        lists: dict[str, str] = {}
        status = ""
        for found in reader.walk(snapshot):
            if found.entry.kind == SYMLINK:
                self._links[found.path] = found.entry.data
            elif found.physical is not None and found.entry.kind == FILE:
                self._physical[found.path] = found.physical
                if found.path.startswith(LISTS) and found.path.endswith(".list"):
                    lists[found.path[len(LISTS) : -len(".list")].partition(":")[0]] = found.physical
                elif found.path == STATUS:
                    status = found.physical
        self._files = {name: tuple(_paths(path)) for name, path in lists.items()}
        self.versions = _versions(status) if status else {}
        self._owners = {os.path.basename(path): name for name, paths in self._files.items() for path in paths}

    def package_of(self, file_name: str) -> str | None:
        """The package that has a file of this name, such as a soname."""
        return self._owners.get(file_name)

    def files(self, package: str) -> tuple[str, ...]:
        """The paths of a package."""
        return self._files.get(package, ())

    def providers(self, wanted: Iterable[str], provided: frozenset[str]) -> tuple[str, ...]:
        """The packages that have the `wanted` libraries that are not `provided`, and what those need in turn."""
        found: dict[str, None] = {}
        pending = [name for name in wanted if name not in provided]
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            package = self._owners.get(name)
            if name in seen or name in provided or package is None:
                continue
            seen.add(name)
            if package not in found:
                found[package] = None
                for path in self._files[package]:
                    physical = self._physical.get(path)
                    elf = read_elf(physical) if physical and ".so" in path else None
                    pending.extend(elf.needed if elf else ())
        return tuple(sorted(found))

    def lay(self, package: str, directory: str) -> None:
        """Lay a package's files below `directory`, by hard links: what is there must not be written to."""
        for path in self._files[package]:
            target = f"{directory}/{path}"
            if os.path.lexists(target):
                continue
            if path in self._physical or path in self._links:
                os.makedirs(os.path.dirname(target), exist_ok=True)
            if path in self._physical:
                os.link(self._physical[path], target)
            elif path in self._links:
                os.symlink(self._links[path], target)


def _paths(list_file: str) -> Iterator[str]:
    """The files of a package, where they are in a system with everything below /usr.

    Directories are listed too: those that the system made links of (``/lib``) would be files of every package.
    """
    with open(list_file, encoding="utf-8", errors="surrogateescape") as text:
        lines = text.read().splitlines()
    directories = {os.path.dirname(line) for line in lines}
    for line in lines:
        if line not in directories:
            yield f"usr{line}" if line.startswith(TO_USR) else line.lstrip("/")


def _versions(status: str) -> dict[str, str]:
    versions: dict[str, str] = {}
    name = ""
    with open(status, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("Package: "):
                name = line[9:].strip()
            elif line.startswith("Version: "):
                versions[name] = line[9:].strip()
    return versions
