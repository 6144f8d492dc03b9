"""Who owns the paths of a tree: the packages it was composed of, and what dpkg or apk know of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, Entry
from boxwright.store.provenance import Provenance
from boxwright.store.store import Store

DPKG_STATUS = "var/lib/dpkg/status"
DPKG_LISTS = "var/lib/dpkg/info"
DPKG_STATUS_DIRECTORY = "var/lib/dpkg/status.d"
APK = "lib/apk/db/installed"
TO_USR = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")
NOBODY = "base"
NO_PACKAGE: dict[str, Any] = {"name": "composition", "about": {}}


class Installed(NamedTuple):
    """A package that a package manager's database in a tree lists. `kind`: deb or apk."""

    kind: str
    name: str
    version: str
    architecture: str
    source: str
    licence: str
    depends: tuple[str, ...]
    paths: tuple[str, ...]


class TreeOwners:
    """Owners of a snapshot's paths, read when first asked for."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot
        self._by_path: dict[str, tuple[str, str]] | None = None

    def owner(self, path: str) -> tuple[str, str]:
        """The package that owns a path of the state, and the version of one that was built; `base` where none does."""
        if self._by_path is None:
            self._by_path = {
                path: (f"{'debian' if package.kind == 'deb' else 'alpine'}/{package.name}={package.version}", "")
                for package in installed_packages(self._store, self._snapshot)
                for path in package.paths
            }
            provenance = Provenance(self._store)
            for layer in reversed(self._snapshot.layers):
                record = provenance.composition(layer)
                for number, paths in (record["paths"] if record else {}).items():
                    item = record["packages"][int(number)] if record and int(number) >= 0 else NO_PACKAGE
                    self._by_path.update(dict.fromkeys(paths, (item["name"], item["about"].get("version", ""))))
        return self._by_path.get(path, (NOBODY, ""))


def owners_of(store: Store, snapshot: Snapshot) -> TreeOwners:
    """The owners of a snapshot's paths."""
    return TreeOwners(store, snapshot)


def installed_packages(store: Store, snapshot: Snapshot) -> Iterator[Installed]:
    """What dpkg and apk have in their databases in a tree."""
    yield from _dpkg(store, snapshot)
    yield from _apk(store, snapshot)


def read_text(store: Store, snapshot: Snapshot, path: str) -> str | None:
    """A text file of a tree, symbolic links followed inside it."""
    located = store.locate(snapshot.manifest, path)
    if located.entry is None or located.entry.kind != FILE:
        return None
    physical = store.physical(snapshot, located.path)
    if physical is None:
        return None
    with open(physical, encoding="utf-8", errors="surrogateescape") as text:
        return text.read()


def _names(store: Store, snapshot: Snapshot, directory: str) -> dict[str, Entry]:
    located = store.locate(snapshot.manifest, directory)
    if located.entry is None or located.entry.kind != DIRECTORY:
        return {}
    return store.entries(located.entry.full)


def _dpkg(store: Store, snapshot: Snapshot) -> Iterator[Installed]:
    """What is installed, by dpkg's status (deb-control(5)); distroless trees have a file for each in status.d."""
    texts = [read_text(store, snapshot, DPKG_STATUS) or ""]
    singles = _names(store, snapshot, DPKG_STATUS_DIRECTORY)
    texts += [
        f"{read_text(store, snapshot, f'{DPKG_STATUS_DIRECTORY}/{name}') or ''}\nStatus: install ok installed\n"
        for name in singles
        if "." not in name
    ]
    if not any(texts):
        return
    lists = _names(store, snapshot, DPKG_LISTS)
    merged = {name for name in TO_USR if _is_link(store, snapshot, name.rstrip("/"))}
    for stanza in (stanza for text in texts for stanza in text.split("\n\n")):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, architecture = fields["Package"], fields.get("Architecture", "")
        listed = next((f for f in (f"{name}:{architecture}.list", f"{name}.list") if f in lists), "")
        text = read_text(store, snapshot, f"{DPKG_LISTS}/{listed}") if listed else ""
        paths = tuple(_merged(line.lstrip("/"), merged) for line in (text or "").splitlines() if line != "/.")
        version = fields["Version"]
        yield Installed(
            "deb",
            name,
            version,
            architecture,
            _source(fields.get("Source", ""), name, version),
            "",
            _depends(fields),
            paths,
        )


def _depends(fields: dict[str, str]) -> tuple[str, ...]:
    """The names of what a package depends on, alternatives among them."""
    text = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
    return tuple(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", text))


def _source(text: str, name: str, version: str) -> str:
    """``NAME VERSION`` of the source package; the field is left out where both are the binary package's."""
    source, _, other = text.partition(" ")
    return f"{source or name} {other.strip('() ') or version}"


def _is_link(store: Store, snapshot: Snapshot, path: str) -> bool:
    return store.locate(snapshot.manifest, path).path == f"usr/{path}"


def _merged(path: str, merged: set[str]) -> str:
    """A path of dpkg's lists where it is in a system with everything below /usr."""
    return next((f"usr/{path}" for name in merged if path.startswith(name)), path)


def _apk(store: Store, snapshot: Snapshot) -> Iterator[Installed]:
    """What is installed, by apk's database (apk-tools, "v2 installed database": one letter for each field)."""
    text = read_text(store, snapshot, APK)
    for stanza in (text or "").split("\n\n"):
        fields: dict[str, str] = {}
        paths: list[str] = []
        directory = ""
        for line in stanza.splitlines():
            key, _, value = line.partition(":")
            if key == "F":
                directory = value
            elif key == "R":
                paths.append(f"{directory}/{value}".lstrip("/"))
            else:
                fields.setdefault(key, value)
        if "P" in fields:
            yield Installed(
                "apk", fields["P"], fields.get("V", ""), fields.get("A", ""), fields.get("o", fields["P"]),
                fields.get("L", ""), tuple(fields.get("D", "").split()), tuple(paths),
            )  # fmt: skip
