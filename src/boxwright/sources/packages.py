"""Which packages a bootstrapped tree holds, by SHA-256, read from apt's lists and dpkg's status there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from boxwright.errors import FetchError


@dataclass(frozen=True, slots=True)
class BasePackage:
    """One package, as the lock lists it. `path` is below the archive's root; `priority` is what the archive says."""

    name: str
    version: str
    architecture: str
    sha256: str
    path: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What a base was made of. `epoch` is the newest time in its packages; nothing in the tree is later.

    `archive_date` is the newest Date of the archive's Release files. It is no part of the tree: archives are dated
    anew each day, and the same packages are to give the same tree.
    """

    epoch: int
    archive_date: int
    packages: tuple[BasePackage, ...]
    sources: tuple[str, ...]


def archive_date(lists: Path) -> int:
    """The newest Date of the Release files there (Debian repository format, "Date")."""
    dates = [
        int(parsedate_to_datetime(found[1].strip()).timestamp())
        for path in lists.glob("*Release")
        if (found := re.search(r"^Date:(.*)$", path.read_text("utf-8", "replace"), re.MULTILINE))
    ]
    if not dates:
        raise FetchError("base.fetch", "the archive has no dated Release file", hint="use another mirror: --mirror URL")
    return max(dates)


def _fields(stanza: bytes) -> dict[bytes, bytes]:
    lines = [line.partition(b":") for line in stanza.split(b"\n") if line[:1] > b" "]
    return {name: value.strip() for name, _, value in lines}


def _stanzas(path: Path) -> Iterator[bytes]:
    yield from path.read_bytes().split(b"\n\n")


def installed_packages(root: Path) -> tuple[BasePackage, ...]:
    """What dpkg says is installed below `root`, sorted, each with the digest that the archive's lists have for it."""
    wanted: set[tuple[bytes, bytes, bytes]] = set()
    for stanza in _stanzas(root / "var/lib/dpkg/status"):
        fields = _fields(stanza)
        if fields.get(b"Status", b"").endswith(b" installed"):
            wanted.add((fields[b"Package"], fields[b"Version"], fields[b"Architecture"]))
    names = {b"Package: " + name for name, _, _ in wanted}
    listed: dict[tuple[bytes, bytes, bytes], dict[bytes, bytes]] = {}
    for path in sorted((root / "var/lib/apt/lists").glob("*_Packages")):
        for stanza in _stanzas(path):
            if stanza.partition(b"\n")[0] in names:
                fields = _fields(stanza)
                listed[fields[b"Package"], fields[b"Version"], fields[b"Architecture"]] = fields
    missing = [key[0].decode() for key in wanted if not listed.get(key, {}).get(b"SHA256")]
    if missing:
        raise FetchError("base.fetch", f"the archive's lists have no SHA-256 of {', '.join(sorted(missing))}")
    return tuple(_package(key, listed[key]) for key in sorted(wanted))


def _package(key: tuple[bytes, bytes, bytes], fields: dict[bytes, bytes]) -> BasePackage:
    more = (fields.get(name, b"") for name in (b"SHA256", b"Filename", b"Priority"))
    return BasePackage(*(word.decode() for word in (*key, *more)))
