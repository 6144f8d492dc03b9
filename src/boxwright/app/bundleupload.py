"""Publishes bundles in a place elsewhere, so that of several uploaders at once none loses what is its own.

A revision is there as soon as its manifest is, which is put after everything else of it and only where none is. The
index is what a listing of the manifests says. Whoever writes it lists them again afterwards and writes anew until
nothing was added or removed meanwhile. So the last writer has seen every manifest that was put before any writing. One
that is killed in between leaves a revision that the next writer's listing brings in. `latest` is the bundle of which
the upload ended last.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from boxwright.app.bundleindex import INDEX, LATEST, described, index_text, parse_index, require_project
from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.place import MissingError, Shelf, Upload, at_once, whole

if TYPE_CHECKING:
    from boxwright.app.bundling import Bundle

MANIFEST = ".zip.json"
SMALL, LARGEST_INDEX = 1 << 16, 1 << 26
ATTEMPTS = 50
ABANDONED = 86400
"""After how many seconds files without a manifest are taken for those of an upload that was killed."""
Entry = dict[str, Any]


def upload(bundle: Bundle, place: Shelf) -> None:
    """Put a finished bundle with what lies beside it.

    Raises BoxwrightError `bundle.other`, `bundle.unfinished`, `bundle.project`, `bundle.busy`.
    """
    require_project(_index(place), bundle.project, place.where)
    name = os.path.basename(bundle.path)
    manifest = _bytes(f"{bundle.path}.json")
    there = _read(place, f"{name}.json")
    if there is None:
        _put_files(bundle, name, place)
        if place.put([Upload(f"{name}.json", manifest)]):
            there = _read(place, f"{name}.json")
    if there is not None and _entry(there, place, f"{name}.json")["sha256"] != bundle.sha256:
        message = f"{place.where} has {name} already, with other bytes"
        hint = "a build step gives another result each time; remove it there, or bundle another revision"
        raise BoxwrightError("bundle.other", message, hint=hint)
    if os.path.exists(f"{bundle.path}.json.sig"):
        place.replace(Upload(f"{name}.json.sig", _bytes(f"{bundle.path}.json.sig")))
    write_index(place, described(bundle))
    place.replace(Upload(LATEST, f"{name}\n".encode()))


def _put_files(bundle: Bundle, name: str, place: Shelf) -> None:
    if place.put([Upload(name, path=bundle.path)]):
        digest = hashlib.sha256()
        for piece in place.read(name):
            digest.update(piece)
        if digest.hexdigest() != bundle.sha256:
            message = f"{place.where}/{name} is there with other bytes and without its manifest"
            hint = "another upload of it goes on, or was killed: wait for it, or remove that file"
            raise BoxwrightError("bundle.unfinished", message, hint=hint)
    place.replace(Upload(f"{name}.sha256", _bytes(f"{bundle.path}.sha256")))


def write_index(place: Shelf, newest: Entry | None = None) -> list[Entry]:
    """Make the index what a listing says, `newest` last; returns its entries. Raises BoxwrightError `bundle.busy`."""
    listed = _manifests(place)
    for _ in range(ATTEMPTS):
        known = {str(it["file"]): it for it in _index(place) if it["file"] in listed}
        if newest is not None:
            known.pop(newest["file"], None)
        last = [newest] if newest is not None and newest["file"] in listed else []
        new = sorted(listed - set(known) - {str(it["file"]) for it in last})
        entries = [*known.values(), *_read_entries(place, new), *last]
        place.replace(Upload(INDEX, index_text(entries).encode()))
        before, listed = listed, _manifests(place)
        if listed == before:
            return entries
    raise BoxwrightError("bundle.busy", f"{place.where}: others change what is there all the time", hint="again")


def _read_entries(place: Shelf, files: list[str]) -> list[Entry]:
    """What the manifests of these bundles say, oldest commit first; without those that were removed meanwhile."""
    manifests = [f"{file}.json" for file in files]
    read = zip(at_once(lambda name: _read(place, name), manifests), manifests, strict=True)
    return sorted(
        (_entry(data, place, name) for data, name in read if data is not None), key=lambda it: int(it["time"])
    )


def prune(place: Shelf, keep: int) -> list[str]:
    """Remove all but the newest `keep` bundles, and never what `latest` names. Returns what went."""
    latest = (_read(place, LATEST) or b"").decode("utf-8", "replace").strip()
    entries = _index(place)
    gone = [str(it["file"]) for it in entries[: max(0, len(entries) - keep)] if it["file"] != latest]
    place.delete([f"{name}.json" for name in gone])
    write_index(place)
    rest = [f"{name}{suffix}" for name in gone for suffix in ("", ".sha256", ".json.sig")]
    place.delete([*rest, *_abandoned(place, set(rest))])
    return gone


def _abandoned(place: Shelf, known: set[str]) -> list[str]:
    listed = [it for it in place.names("") if "/" not in it.name and ".zip" in it.name]
    whole_ones = {it.name.removesuffix(".json") for it in listed if it.name.endswith(MANIFEST)}
    before = time.time() - ABANDONED
    loose = [it for it in listed if f"{it.name.partition('.zip')[0]}.zip" not in whole_ones]
    return [it.name for it in loose if it.time < before and it.name not in known]


def _manifests(place: Shelf) -> set[str]:
    """The ZIPs of which the manifest is there."""
    names = (it.name for it in place.names(""))
    return {name.removesuffix(".json") for name in names if name.endswith(MANIFEST) and "/" not in name}


def _index(place: Shelf) -> list[Entry]:
    """What the index says now; a damaged one says nothing, since the manifests do."""
    try:
        text = whole(place, INDEX, LARGEST_INDEX).decode("utf-8", "replace")
        return parse_index(text, f"{place.where}/{INDEX}")
    except MissingError:
        return []
    except BoxwrightError as error:
        if error.code != "bundle.index":
            raise
        return []


def _entry(data: bytes, place: Shelf, name: str) -> Entry:
    """A manifest's content, as the index has it. Raises BoxwrightError `bundle.manifest`."""
    try:
        found: Entry = json.loads(data)
        if f"{found['file']}.json" == name and found["project"] and found["sha256"] and int(found["time"]) >= 0:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise BoxwrightError("bundle.manifest", f"{place.where}/{name} is no bundle's manifest", hint="remove it there")


def _read(place: Shelf, name: str) -> bytes | None:
    try:
        return whole(place, name, SMALL)
    except MissingError:
        return None


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
