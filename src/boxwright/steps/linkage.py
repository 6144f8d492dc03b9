"""Whether every program of a composed tree finds its shared libraries, as ld.so(8) looks for them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, SYMLINK, Entry
from boxwright.ports import Workspace
from boxwright.steps.elf import Elf, read_elf
from boxwright.steps.union import Union

SMALLEST = 52
MOST_LINKS = 40
MOST_NAMED = 8
TRIPLET = re.compile(r"[a-z0-9_]+-linux-(?:gnu|musl)[a-z0-9_]*\Z")
DEBUG = "usr/lib/debug/"


class Missing(NamedTuple):
    """A library (or a version of its symbols) that the file `by` needs and nothing has."""

    by: str
    soname: str
    version: str = ""


class Linkage:
    """Looks at the ELF files of a union, in the state that it is laid into."""

    def __init__(self, workspace: Workspace, parent: Snapshot, union: Union) -> None:
        self._workspace = workspace
        self._parent = parent
        self._union = union
        self._read: dict[str, Elf | None] = {}
        self._below: dict[str, set[str]] = {}
        self._searched: tuple[str, ...] | None = None
        self.refresh()

    def refresh(self) -> None:
        """The union has grown."""
        below: dict[str, set[str]] = {}
        for path in (*self._union.files, *self._union.directories):
            above, _, name = path.rpartition("/")
            below.setdefault(above, set()).add(name)
        self._below = below
        self._searched = None

    def elf(self, path: str) -> Elf | None:
        """What a file of the union or the state is as ELF."""
        if path not in self._read:
            physical = self.physical(path)
            self._read[path] = read_elf(physical) if physical else None
        return self._read[path]

    def physical(self, path: str) -> str | None:
        """Where a regular file's bytes lie."""
        owned = self._union.files.get(path)
        if owned is not None:
            if owned.entry.kind != FILE:
                return None
            return self._workspace.physical(self._union.parts[owned.part].snapshot, owned.source)
        return self._workspace.physical(self._parent, path) if self._union.state_entry(path) else None

    def missing(self) -> list[Missing]:
        """Everything that can't be found, in the order of paths."""
        return sorted({lack for path in self._union.files for lack in self._missing_of(path)})

    def _missing_of(self, path: str) -> Iterator[Missing]:
        owned = self._union.files[path]
        if owned.entry.kind != FILE or owned.entry.size < SMALLEST or path.startswith(DEBUG):
            return
        elf = self.elf(path)
        if elf is None:
            return
        if elf.interpreter and self.find(elf.interpreter) is None:
            yield Missing(path, elf.interpreter)
        for soname in elf.needed:
            provider = self._provider(path, elf, soname)
            if provider is None:
                yield Missing(path, soname)
                continue
            defined = self.elf(provider)
            for name, version in elf.versions:
                if name == soname and defined and defined.defines and version not in defined.defines:
                    yield Missing(path, soname, version)

    def _provider(self, path: str, elf: Elf, soname: str) -> str | None:
        if "/" in soname:
            return self.find(soname)
        origin = "/" + posixpath.dirname(path)
        own = [
            place.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
            for search in elf.search
            for place in search.split(":")
        ]
        for directory in (*own, *self.directories()):
            found = self.find(f"{directory}/{soname}")
            other = self.elf(found) if found else None
            if found and other and (other.machine, other.bits) == (elf.machine, elf.bits):
                return found
        return None

    def directories(self) -> tuple[str, ...]:
        """Where ld.so looks: what ld.so.conf names, ``/opt/NAME/lib``, then the directories of the system."""
        if self._searched is None:
            names = [name for name in self._names("usr/lib") if TRIPLET.match(name)]
            system = [*(f"usr/lib/{name}" for name in sorted(names)), "usr/lib64", "usr/lib"]
            own = [f"opt/{name}/lib" for name in sorted(self._names("opt"))]
            self._searched = tuple(dict.fromkeys((*self._configured(), *own, *system)))
        return self._searched

    def _configured(self) -> list[str]:
        """The directories of ld.so.conf and ld.so.conf.d, which counts also without the former."""
        found: list[str] = []
        for name in sorted(self._names("etc/ld.so.conf.d")):
            found += self._lines(f"etc/ld.so.conf.d/{name}") if name.endswith(".conf") else []
        found += self._lines("etc/ld.so.conf")
        return [line.strip("/") for line in found if line.startswith("/")]

    def _lines(self, path: str) -> list[str]:
        place = self.find(path)
        physical = self.physical(place) if place else None
        if physical is None:
            return []
        with open(physical, encoding="utf-8", errors="replace") as text:
            return [line.partition("#")[0].strip() for line in text]

    def _names(self, directory: str) -> set[str]:
        """The names in a directory of the union and of the state."""
        return self._below.get(directory, set()) | set(self._state_entries(directory))

    def _state_entries(self, directory: str) -> dict[str, Entry]:
        if self._union.state_entry(directory) is None:
            return {}
        located = self._workspace.locate(self._parent.manifest, directory)
        if located.entry is None or located.entry.kind != DIRECTORY:
            return {}
        return dict(self._workspace.entries(located.entry.full))

    def find(self, path: str) -> str | None:
        """The regular file that a path leads to; None where it leads nowhere."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while parts:
            name = parts.pop(0)
            if name == "..":
                done = done[:-1]
                continue
            here = "/".join((*done, name))
            entry = self._entry(here)
            if entry is None and not done and name in USR_LINKS and self._entry(f"usr/{name}"):
                parts[:0] = ["usr", name]  # the links beside /usr, which composition makes
                continue
            if entry is not None and entry.kind == SYMLINK:
                links += 1
                if links > MOST_LINKS:
                    return None
                done = [] if entry.data.startswith("/") else done
                parts[:0] = [part for part in entry.data.split("/") if part not in ("", ".")]
                continue
            if entry is None:
                return None
            done.append(name)
        found = "/".join(done)
        last = self._entry(found)
        return found if last is not None and last.kind != DIRECTORY else None

    def _entry(self, path: str) -> Entry | None:
        owned = self._union.files.get(path)
        if owned is not None:
            return owned.entry
        if path in self._union.directories:
            return self._union.directories[path][0]
        return self._union.state_entry(path)

    def loadable(self) -> dict[str, list[tuple[str, Elf]]]:
        """By soname the libraries that ld.so would find, in the order in which it looks: path as looked for, facts."""
        found: dict[str, list[tuple[str, Elf]]] = {}
        below = self._below
        for directory in self.directories():
            for name in sorted(below.get(directory, set()) | set(self._state_entries(directory))):
                if ".so" not in name:
                    continue
                target = self.find(f"{directory}/{name}")
                elf = self.elf(target) if target else None
                if elf is not None and name == (elf.soname or name):
                    found.setdefault(name, []).append((f"{directory}/{name}", elf))
        return found

    def replaced_libraries(self) -> set[str]:
        """The paths of libraries whose soname another package's library has that replaces them.

        Raises `compose.soname` where two packages bring libraries of one soname into the directories of ld.so, and
        neither replaces the other.
        """
        dropped: set[str] = set()
        for soname, places in sorted(self.loadable().items()):
            owners: dict[tuple[int, int], dict[int, set[str]]] = {}
            for path, elf in places:
                real = self.find(path) or path
                owned = self._union.files.get(real)
                if owned is not None:
                    owners.setdefault((elf.machine, elf.bits), {}).setdefault(owned.part, set()).update({path, real})
            for by_part in owners.values():
                losers = {part for part in by_part if any(self._union.replaces(other, part) for other in by_part)}
                if len(by_part) - len(losers) > 1:
                    raise self._conflict(soname, by_part)
                dropped |= {path for part in losers for path in by_part[part] if self._union.files[path].part == part}
        return dropped

    def _conflict(self, soname: str, by_part: Mapping[int, set[str]]) -> BoxwrightError:
        names = {self._union.parts[part].package.name: min(paths) for part, paths in by_part.items()}
        said = " and ".join(f"{name} (/{path})" for name, path in sorted(names.items()))
        hint = "leave one out, or say replaces: in the other"
        return BoxwrightError("compose.soname", f"{soname} is in {said}", hint=hint)


USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64")


def unresolved(missing: Sequence[Missing], union: Union) -> BoxwrightError:
    """The error for libraries that nothing has."""

    def owner(path: str) -> str:
        return union.parts[union.files[path].part].package.name

    versions = [lack for lack in missing if lack.version]
    plain = [lack for lack in missing if not lack.version]
    code = "compose.missing-library" if plain else "compose.missing-version"
    shown = plain or versions
    lines = [
        f"/{lack.by} of {owner(lack.by)} needs {lack.soname}{' with ' + lack.version if lack.version else ''}"
        for lack in shown[:MOST_NAMED]
    ]
    more = f" (and {len(shown) - MOST_NAMED} more)" if len(shown) > MOST_NAMED else ""
    what = "which nothing in the container has" if plain else "a symbol version that the library there does not have"
    hint = (
        "name the package that has it: `depends:` of the package, or a `package:` task, such as debian/NAME=VERSION"
        if plain
        else "build both with one toolchain, or take the library from where the program was built"
    )
    return BoxwrightError(code, f"{'; '.join(lines)}{more}, {what}", hint=hint)
