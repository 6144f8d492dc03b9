"""Pages that stand for the distribution's archives: what mirrors have, and the archive of old versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.integration.web import Page


class OldFile(NamedTuple):
    """A package's file. `architecture` is ``source`` for a source package's."""

    name: str
    version: str
    architecture: str
    data: bytes


def snapshot_pages(files: list[OldFile]) -> dict[str, Page]:
    """As Debian's archive of old versions lays them out: lists by package and version, contents by SHA-1."""
    pages: dict[str, Page] = {}
    lists: dict[str, list[dict[str, str]]] = {}
    for file in files:
        sha1 = hashlib.sha1(file.data, usedforsecurity=False).hexdigest()
        pages[f"/file/{sha1}"] = Page(file.data)
        package = f"{quote(file.name, safe='')}/{quote(file.version, safe='')}"
        if file.architecture == "source":
            lists.setdefault(f"/mr/package/{package}/srcfiles", []).append({"hash": sha1})
        else:
            item = {"hash": sha1, "architecture": file.architecture}
            lists.setdefault(f"/mr/binary/{package}/binfiles", []).append(item)
    for place, result in lists.items():
        pages[place] = Page(json.dumps({"_comment": "foo", "result": result}).encode())
    return pages


def locked_files(lock: Path, section: str, name: str, blobs: Path) -> list[tuple[OldFile, str]]:
    """The packages that a lock lists for a base, from a store, each with its place on a mirror."""
    entry = json.loads(lock.read_text())[section][name]
    return [
        (OldFile(package, version, architecture, (blobs / sha256).read_bytes()), path)
        for package, version, architecture, sha256, path, _ in entry["packages"]
    ]


def locked_singles(lock: Path, blobs: Path) -> list[OldFile]:
    """The files of the single packages, binary and source, that a lock lists, from a store."""
    data = json.loads(lock.read_text())
    found = []
    for called, value in data["debian-packages"].items():
        name, _, version = called.partition("=")
        found.append((name, version, "amd64", value.split()[0]))
    for called, files in data["debian-sources"].items():
        name, _, version = called.partition("=")
        found += [(name, version, "source", digest) for _, digest, *_ in files]
    return [
        OldFile(name, version, kind, (blobs / digest.removeprefix("sha256:")).read_bytes())
        for name, version, kind, digest in found
    ]
