"""Where modules are found: directories and git repositories, pinned by content in boxwright.lock."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.files import hash_file
from boxwright.frontends.manifest.wanted import FoundModule
from boxwright.frontends.package.problem import nearest
from boxwright.model.digest import digest_of
from boxwright.model.span import Span

FILE = "module.yaml"
LOCK = "boxwright.lock"
SECTION = "modules"
TREE = "modules"
TREES_VARIABLE = "BOXWRIGHT_MODULES"
_VERSION = re.compile(r"^version:\s*[\"']?([0-9][0-9.]*)", re.MULTILINE)
_SUMMARY = re.compile(r"^summary:\s*(.+?)\s*$", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*(/[a-z0-9][a-z0-9+._-]*)?")


class Candidate(NamedTuple):
    """A module that a repository has. `place` is the repository as it was named."""

    name: str
    version: str
    file: str
    place: str
    summary: str = ""

    @property
    def directory(self) -> str:
        """Where its files are."""
        return os.path.dirname(self.file)


def module_trees(near: str, environment: Mapping[str, str], configured: tuple[str, ...]) -> tuple[str, ...]:
    """The repositories, the nearest first: ``modules/`` above the definition, BOXWRIGHT_MODULES, the configuration's.

    Last this program's own.
    """
    found: dict[str, None] = {}
    place = os.path.abspath(near)
    while True:
        if os.path.isdir(f"{place}/{TREE}"):
            found[f"{place}/{TREE}"] = None
        parent = os.path.dirname(place)
        if parent == place:
            break
        place = parent
    for place in filter(None, environment.get(TREES_VARIABLE, "").split(":")):
        found[os.path.abspath(place)] = None
    found.update(dict.fromkeys(configured))
    found.update(dict.fromkeys(own_trees()))
    return tuple(found)


def own_trees() -> list[str]:
    """Those that come with the program: installed, or in a checkout."""
    package = Path(__file__).parents[2]
    places = (package / TREE, package.parents[1] / TREE)
    return [str(place) for place in places if place.is_dir()]


def candidates(tree: str, place: str, name: str = "") -> Iterator[Candidate]:
    """The modules of a repository: NAME/module.yaml, and NAME/VERSION/module.yaml. With `name` only that one."""
    names = [name] if name else _names(tree)
    for one in names:
        files = [f"{tree}/{one}/{FILE}"]
        if os.path.isdir(f"{tree}/{one}"):
            versions = [below for below in sorted(os.listdir(f"{tree}/{one}")) if below[0].isdigit()]
            files += [f"{tree}/{one}/{version}/{FILE}" for version in versions]
        for file in files:
            if os.path.isfile(file):
                text = Path(file).read_text(encoding="utf-8", errors="replace")
                version, summary = _VERSION.search(text), _SUMMARY.search(text)
                yield Candidate(one, version[1] if version else "0", file, place, summary[1] if summary else "")


def _names(tree: str) -> list[str]:
    found: set[str] = set()
    for parent, directories, files in os.walk(tree):
        directories[:] = sorted(it for it in directories if not it.startswith("."))
        if FILE in files:
            path = os.path.relpath(parent, tree)
            last = path.rpartition("/")[2]
            found.add(path.rpartition("/")[0] if last[0].isdigit() and "/" in path else path)
            directories.clear()
    return sorted(it for it in found if _NAME.fullmatch(it))


def version_key(version: str) -> tuple[int, ...]:
    """For comparing versions."""
    return tuple(int(part) for part in version.split(".") if part)


def find_module(
    name: str, version: str, trees: tuple[str, ...], opened: Callable[[str], str], where: Span | None
) -> Candidate:
    """The newest module of that name whose version begins with `version`, of the first repository that has one.

    `opened` makes a repository a directory. Raises `module.not-found`, `module.version`.
    """
    if not _NAME.fullmatch(name):
        raise DefinitionError("module.not-found", f"{name!r} is no name of a module", where=where)
    others: list[str] = []
    for tree in trees:
        found = sorted(candidates(opened(tree), tree, name), key=lambda it: version_key(it.version), reverse=True)
        wanted = [it for it in found if not version or f"{it.version}.".startswith(f"{version}.")]
        if wanted:
            return wanted[0]
        others += [it.version for it in found]
    if others:
        hint = f"there are {', '.join(others)}"
        raise DefinitionError("module.version", f"there is no {name} {version}", hint=hint, where=where)
    known = [it.name for tree in trees for it in candidates(opened(tree), tree)]
    hint = nearest(name, known) or "`boxwright module search` lists what there is"
    raise DefinitionError("module.not-found", f"there is no module {name!r}", hint=hint, where=where)


def module_digest(directory: str) -> str:
    """The digest of a module's content: names, modes and bytes of all its files."""
    lines: list[str] = []
    for parent, directories, files in os.walk(directory):
        directories.sort()
        directories[:] = [it for it in directories if it != ".git"]
        for name in sorted(files):
            path = f"{parent}/{name}"
            relative = os.path.relpath(path, directory)
            if os.path.islink(path):
                lines.append(f"{relative}\0link\0{os.readlink(path)}")
            else:
                executable = bool(os.stat(path).st_mode & 0o100)
                lines.append(f"{relative}\0{executable}\0{hash_file(path)}")
    return digest_of("\n".join(lines).encode("utf-8", "surrogateescape"))


def read_pins(directory: str) -> dict[str, dict[str, str]]:
    """The modules that the lock beside a definition pins. Raises `lock.damaged`."""
    path = os.path.join(directory, LOCK)
    try:
        with open(path, encoding="utf-8") as text:
            data = json.load(text)
        pins: dict[str, dict[str, str]] = data.get(SECTION, {})
        if any(not isinstance(pin.get("content"), str) for pin in pins.values()):
            raise ValueError("a module without content")  # noqa: TRY301 - said like any other damage
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, RecursionError) as error:
        raise DefinitionError("lock.damaged", f"{path} is no lock: {error}", hint="run `boxwright lock`") from error
    return pins


def write_pins(directory: str, pins: Mapping[str, Mapping[str, str]]) -> str:
    """Pin these modules, whatever was pinned before; the rest of the lock stays. Returns its path."""
    path = os.path.join(directory, LOCK)
    data: dict[str, object] = {"format": 1}
    if os.path.isfile(path):
        read_pins(directory)
        with open(path, encoding="utf-8") as text:
            data = json.load(text)
    data[SECTION] = {name: dict(pin) for name, pin in sorted(pins.items())}
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    os.rename(part, path)
    return path


def pin_of(found: Candidate) -> dict[str, str]:
    """What a lock says of a module."""
    return {"version": found.version, "content": module_digest(found.directory)}


def check_pin(found: Candidate, pins: Mapping[str, Mapping[str, str]], where: Span | None) -> None:
    """Raises `module.changed` where the lock pins other content."""
    pin = pins.get(found.name)
    if pin is None:
        return
    content = module_digest(found.directory)
    if pin["content"] != content:
        message = f"{found.name} {found.version} of {found.place} is not what {LOCK} pins ({pin.get('version', '')})"
        hint = "`boxwright lock` or `boxwright module add` takes it as it is now"
        raise DefinitionError("module.changed", message, hint=hint, where=where)


def as_found(candidate: Candidate) -> FoundModule:
    """As the frontend wants it."""
    return FoundModule(candidate.file, candidate.version)
