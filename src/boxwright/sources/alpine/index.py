"""APKINDEX: what a repository holds (apk-package(5), "INDEX FORMAT V2")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.alpine.versions import satisfies

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_VERSION = re.compile(r"[A-Za-z0-9._~+-]+")
_DEPENDENCY = re.compile(r"(!?)([^<>=~!@\s]+)(?:(=~|~=|<=|>=|<|>|=|~)([^<>=~@\s][^@\s]*))?")


class Dependency(NamedTuple):
    """A name (also ``so:`` and ``cmd:``), and which versions of it will do. `forbidden`: none may be there."""

    name: str
    operator: str = ""
    version: str = ""
    forbidden: bool = False

    def accepts(self, version: str) -> bool:
        """Whether that version will do; what has none does only where none is asked for."""
        return not self.operator or (bool(version) and satisfies(version, self.operator, self.version))

    def __str__(self) -> str:
        return f"{'!' * self.forbidden}{self.name}{self.operator}{self.version}"


class Package(NamedTuple):
    """One record of an index. `fields` are its lines by their letter; `checksum` is that of the control segment.

    `provides` are names with their versions; `priority` says which of several providers is taken.
    """

    name: str
    version: str
    architecture: str
    checksum: str
    size: int
    built: int
    depends: tuple[str, ...]
    provides: tuple[tuple[str, str], ...]
    install_if: tuple[Dependency, ...]
    priority: int
    fields: dict[str, str]
    repository: str

    @property
    def needs(self) -> tuple[Dependency, ...]:
        """What it depends on. Of most packages of an index nobody asks."""
        return tuple(map(parse_dependency, self.depends))

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}-{self.version}.apk"

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


def parse_dependency(text: str) -> Dependency:
    """``name``, ``!name``, ``name>=1.2``, ``so:libc.so=1``."""
    found = _DEPENDENCY.fullmatch(text)
    if found is None:
        raise FetchError("base.index", f"{text!r} is no dependency that is understood")
    operator = "~" if "~" in (found[3] or "") else found[3] or ""
    return Dependency(found[2], operator, found[4] or "", forbidden=bool(found[1]))


def parse_index(text: str, repository: str, architecture: str) -> Iterator[Package]:
    """The packages of an index that are for that architecture. Raises FetchError where it is no index."""
    for stanza in text.split("\n\n"):
        fields = {line[0]: line[2:] for line in stanza.split("\n") if line[1:2] == ":"}
        if not fields:
            continue
        package = _package(fields, repository)
        if package.architecture in (architecture, "noarch"):
            yield package


def _time(text: str) -> int:
    time = int(text)
    if not 0 <= time < 1 << 33:
        raise ValueError(f"{text} is no time")
    return time


def _package(fields: dict[str, str], repository: str) -> Package:
    name, version = fields.get("P", ""), fields.get("V", "")
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise FetchError("base.index", f"the index of {repository} names no package {name!r} {version!r}")
    provided = (item.partition("=") for item in fields.get("p", "").split())
    try:
        return Package(
            name,
            version,
            fields.get("A", ""),
            fields.get("C", ""),
            int(fields.get("S", "0")),
            _time(fields.get("t", "0")),
            tuple(fields.get("D", "").split()),
            tuple((item, found) for item, _, found in provided),
            tuple(map(parse_dependency, fields.get("i", "").split())),
            int(fields.get("k", "0")),
            fields,
            repository,
        )
    except ValueError as error:
        raise FetchError("base.index", f"the index of {repository} has a wrong number at {name}: {error}") from error
