"""Verification: tree objects against their names, files on the disk against the manifests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from boxwright.errors import StoreError
from boxwright.files import hash_file
from boxwright.model.digest import Digest, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import BLOCK, CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, Manifest
from boxwright.store.layers import merged_names, shown_directories
from boxwright.store.scan import KINDS, read_xattrs
from boxwright.store.store import Store

BATCH = 500
MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Damage:
    """A path of a snapshot that is not what the manifest says, and in which way."""

    path: str
    text: str


class Verifier:
    """Compares snapshots with the disk. What several of them share is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[int, tuple[Damage, ...]] = {}

    def snapshot(self, snapshot: Snapshot) -> tuple[Damage, ...]:
        """What is wrong with a snapshot; some of it where that is much."""
        places = [f"{self._store.home.layers}/{name}" for name in snapshot.layers]
        missing = [place for place in places if not os.path.isdir(place)]
        if missing:
            return tuple(Damage("", f"the layer {os.path.basename(place)} is missing") for place in missing)
        try:
            root = self._store.trees.root(snapshot.manifest)
            problems = self._attributes("", root, places[0]) if places else []
            return (*problems, *self._directory(snapshot.manifest, root.full, "", places))[:MOST_PROBLEMS]
        except StoreError as error:
            return (Damage("", error.message),)
        except OSError as error:
            return (Damage("", f"{error.filename} can't be read: {error.strerror}"),)

    def _directory(self, manifest: Manifest, full: str, prefix: str, places: Sequence[str]) -> tuple[Damage, ...]:
        seen = hash((full, *places))
        if seen not in self._seen:
            found = self._compare(manifest, full, prefix, places)
            self._seen[seen] = tuple(found[:MOST_PROBLEMS])
        return self._seen[seen]

    def _compare(self, manifest: Manifest, full: str, prefix: str, places: Sequence[str]) -> list[Damage]:
        names = {name: paths for name, paths in merged_names(places).items() if not _is_nothing(paths[0])}
        entries = self._store.trees.entries(full)
        problems = [Damage(prefix + name, "is not in the manifest") for name in names.keys() - entries.keys()]
        for name, entry in entries.items():
            path = prefix + name
            paths = names.get(name)
            if paths is None:
                problems.append(Damage(path, "is missing"))
                continue
            wrong = self._attributes(path, entry, paths[0])
            if wrong:
                problems.extend(wrong)
            elif entry.kind == DIRECTORY:
                problems.extend(self._directory(manifest, entry.full, f"{path}/", shown_directories(paths)))
            else:
                problems.extend(self._content(manifest, path, entry, paths[0]))
        return problems

    @staticmethod
    def _attributes(path: str, entry: Entry, physical: str) -> list[Damage]:
        status = os.lstat(physical)
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "socket")
        wanted = FILE if entry.kind == HARDLINK else entry.kind
        if kind != wanted:
            return [Damage(path, f"is of kind {kind}, not {wanted}")]
        problems: list[Damage] = []
        if kind != SYMLINK and stat.S_IMODE(status.st_mode) != entry.mode:
            problems.append(Damage(path, f"has mode {stat.S_IMODE(status.st_mode):o}, not {entry.mode:o}"))
        if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
            problems.append(Damage(path, f"belongs to {status.st_uid}:{status.st_gid}, not {entry.uid}:{entry.gid}"))
        if kind == FILE and status.st_size != entry.size:
            problems.append(Damage(path, f"has {status.st_size} bytes, not {entry.size}"))
        if kind in (CHAR, BLOCK) and f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" != entry.data:
            problems.append(Damage(path, f"is not the device {entry.data}"))
        if read_xattrs(physical) != entry.xattrs:
            problems.append(Damage(path, "has other extended attributes"))
        return problems

    def _content(self, manifest: Manifest, path: str, entry: Entry, physical: str) -> list[Damage]:
        if entry.kind == SYMLINK:
            return [] if os.readlink(physical) == entry.data else [Damage(path, "leads elsewhere")]
        wanted = entry.data
        if entry.kind == HARDLINK:
            first = self._store.locate(manifest, entry.data, follow=False).entry
            if first is None or first.kind != FILE:
                return [Damage(path, f"is a link to {entry.data}, which is not there")]
            wanted = first.data
        elif entry.kind != FILE:
            return []
        return [] if hash_file(physical) == wanted else [Damage(path, "has other bytes")]


def _is_nothing(physical: str) -> bool:
    """Whether a name on the disk stands for none: a whiteout, or a socket, which no manifest holds."""
    status = os.lstat(physical)
    return stat.S_ISSOCK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)


def damaged_objects(store: Store) -> list[str]:
    """Tree objects that don't have the bytes that their names say, in hexadecimal."""
    damaged: list[str] = []
    last = b""
    while rows := store.index.all(
        "SELECT digest, data FROM trees WHERE digest>? ORDER BY digest LIMIT ?", (last, BATCH)
    ):
        damaged.extend(digest.hex() for digest, data in rows if hashlib.sha256(data).digest() != digest)
        last = rows[-1][0]
    return damaged


def damage_of_index(store: Store) -> list[str]:
    """What SQLite says of the index; nothing where it is well."""
    return [str(row[0]) for row in store.index.all("PRAGMA integrity_check(20)") if row[0] != "ok"]


def forget(store: Store, keys: Sequence[Digest], objects: Sequence[str] = ()) -> list[str]:
    """Remove damaged records, so that they are built again. Returns the names of images that went with them."""
    with store.index.writing() as db:
        lost = [
            row[0]
            for key in keys
            for row in db.execute("SELECT name FROM tags JOIN images USING (identity) WHERE images.key=?", (key,))
        ]
        db.executemany("DELETE FROM snapshots WHERE key=?", [(key,) for key in keys])
        db.executemany("DELETE FROM trees WHERE digest=?", [(bytes.fromhex(full),) for full in objects])
        db.execute("DELETE FROM images WHERE key NOT IN (SELECT key FROM snapshots)")
        db.execute("DELETE FROM tags WHERE identity NOT IN (SELECT identity FROM images)")
        db.execute("DELETE FROM copies WHERE key NOT IN (SELECT key FROM snapshots)")
    return sorted(lost)


def all_snapshots(store: Store) -> list[Snapshot]:
    """Every recorded snapshot, those with short chains first."""
    rows = store.index.all("SELECT key, layers, full, content, epoch FROM snapshots ORDER BY length(layers), key")
    return [
        Snapshot(Digest(key), tuple(layers.split()), Manifest(Digest(full), Digest(content)), epoch)
        for key, layers, full, content, epoch in rows
    ]


def short_key(snapshot: Snapshot) -> str:
    """A snapshot's key for people."""
    return hex_of(snapshot.key)[:12]
