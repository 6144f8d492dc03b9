"""Packages in the store: blobs by content, and for each package its record under both of its keys.

A package's files are a snapshot like any other; beside it stands its record, and its archive as a blob.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.errors import BoxwrightError
from boxwright.files import hash_file
from boxwright.model.digest import Digest, digest_from_hex, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.package import PackageRecord
from boxwright.store.store import Store

ARCHIVE_LEVEL = 3
FRESH_SECONDS = 2 * 3600
"""What came lately may be about to be named by a build."""
REMEMBERED_SECONDS = 90 * 24 * 3600
"""How long sources are kept after they were fetched."""

# In packages, `used` is in nanoseconds: builds follow each other fast.
TABLES = (
    # used: in nanoseconds, since two builds may end within a second
    """CREATE TABLE IF NOT EXISTS packages (key TEXT PRIMARY KEY, definition TEXT NOT NULL, name TEXT NOT NULL,
      archive TEXT NOT NULL, record TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS definitions (definition TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS packages_by_name ON packages (name)",
    "CREATE TABLE IF NOT EXISTS pins (name TEXT PRIMARY KEY, value TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
)


class Packages:
    """The packages of a store."""

    def __init__(self, store: Store) -> None:
        self._store = self.store = store
        self._blobs = f"{store.home.root}/blobs"
        if store.index.one("SELECT 1 FROM sqlite_master WHERE name='definitions'") is None:
            with store.index.writing() as db:
                for statement in TABLES:
                    db.execute(statement)

    def keep(self, package: PackageRecord) -> None:
        """Record a package whose snapshot is recorded under its content key."""
        text = json.dumps(package.record, separators=(",", ":"))
        with self._store.index.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO packages VALUES (?, ?, ?, ?, ?, ?)",
                (package.key, package.definition, package.name, package.archive, text, time.time_ns()),
            )
            self.note_definition(package.definition, package.key)

    def note_definition(self, definition: Digest, key: Digest) -> None:
        """Record what a definition key turned out to be: several may be the same package (early cut-off)."""
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO definitions VALUES (?, ?)", (definition, key))

    def by_key(self, key: Digest) -> PackageRecord | None:
        """The package of a content key."""
        return self._one("key=?", key)

    def by_definition(self, definition: Digest) -> Snapshot | None:
        """The newest package of a definition key, as it lies in the store."""
        row = self._store.index.one("SELECT key FROM definitions WHERE definition=?", (definition,))
        return self._store.snapshot(Digest(row[0])) if row else None

    def find(self, given: str) -> PackageRecord:
        """The package of a name (the newest one), or of the beginning of either key. Raises `package.unknown`."""
        found = self._one("name=? ORDER BY used DESC", given)
        if found is not None:
            return found
        wanted = given if given.startswith("sha256:") else f"sha256:{given}"
        if len(wanted) >= len("sha256:") + 6:
            for table, column in (("definitions", "definition"), ("packages", "key")):
                rows = self._store.index.all(
                    f"SELECT key FROM {table} WHERE {column}>=? AND {column}<?",  # noqa: S608
                    (wanted, wanted + "g"),
                )
                if rows and (package := self.by_key(Digest(rows[0][0]))):
                    return package
        hint = "a name such as www-servers/nginx-1.22.1, or the beginning of a HASH"
        raise BoxwrightError("package.unknown", f"no package {given!r} was built here", hint=hint)

    def _one(self, condition: str, value: str) -> PackageRecord | None:
        row = self._store.index.one(
            f"SELECT key, definition, name, archive, record FROM packages WHERE {condition} LIMIT 1",  # noqa: S608
            (value,),
        )
        return PackageRecord(row[0], row[1], row[2], row[3], json.loads(row[4])) if row else None

    def cache(self, name: str) -> str:
        """A directory for what can be made again."""
        return f"{self._store.home.cache}/{name}"

    def blob(self, digest: str) -> str | None:
        """Where the bytes of a digest lie."""
        path = f"{self._blobs}/{digest.rpartition(':')[2]}"
        return path if os.path.exists(path) else None

    @contextmanager
    def adding(self) -> Iterator[str]:
        """A path to write a new blob to."""
        os.makedirs(self._blobs, mode=0o711, exist_ok=True)
        path = f"{self._blobs}/.{os.getpid()}-{os.urandom(6).hex()}"
        try:
            yield path
        finally:
            if os.path.lexists(path):
                os.unlink(path)

    def add(self, path: str, name: str = "") -> str:
        """Keep a finished file under its SHA-256, or under `name`; returns ``sha256:HEX`` or `name`."""
        digest = name or f"sha256:{hash_file(path)}"
        os.rename(path, f"{self._blobs}/{digest.rpartition(':')[2]}")
        return digest

    def keep_archive(self, path: str) -> Digest:
        """Keep a package's tar, compressed; returns the digest of the tar itself."""
        import zstandard

        digest = hash_file(path)
        target = f"{self._blobs}/{digest}.tar.zst"
        if not os.path.exists(target):
            with self.adding() as part:
                with open(path, "rb") as source, open(part, "wb") as file:
                    zstandard.ZstdCompressor(level=ARCHIVE_LEVEL).copy_stream(source, file)
                os.rename(part, target)
        return digest_from_hex(digest)

    def add_archive(self, path: str, digest: Digest) -> None:
        """Keep the compressed tar of this digest, which was made elsewhere and is known to be it."""
        os.rename(path, f"{self._blobs}/{hex_of(digest)}.tar.zst")

    def definitions(self, key: Digest) -> tuple[Digest, ...]:
        """All definition keys that turned out to be this package."""
        rows = self._store.index.all("SELECT definition FROM definitions WHERE key=? ORDER BY definition", (key,))
        return tuple(Digest(row[0]) for row in rows)

    def archive(self, digest: Digest) -> str | None:
        """Where a package's archive lies, compressed with zstd."""
        path = f"{self._blobs}/{hex_of(digest)}.tar.zst"
        return path if os.path.exists(path) else None

    def prune(self, now: int, *, everything: bool) -> int:
        """Forget packages whose files are gone, and remove blobs that no package and nobody lately needed.

        What packages and bases that are here were made of stays; other sources go after some time, or with
        `everything`. Returns how many blobs went.
        """
        with self._store.index.writing() as db:
            db.execute("DELETE FROM packages WHERE key NOT IN (SELECT key FROM snapshots)")
            db.execute("DELETE FROM definitions WHERE key NOT IN (SELECT key FROM packages)")
            kept = {f"{hex_of(Digest(row[0]))}.tar.zst" for row in db.execute("SELECT archive FROM packages")}
            kept |= {digest.rpartition(":")[2] for digest in _sources_in_use(db)}
        gone = 0
        for name in os.listdir(self._blobs) if os.path.isdir(self._blobs) else ():
            path = f"{self._blobs}/{name}"
            age = now - os.lstat(path).st_ctime
            if name in kept or age < (FRESH_SECONDS if everything or name.endswith(".zst") else REMEMBERED_SECONDS):
                continue
            os.unlink(path)
            gone += 1
        return gone

    def pin(self, name: str) -> str | None:
        """What was remembered under a name."""
        row = self._store.index.one("SELECT value FROM pins WHERE name=?", (name,))
        return row[0] if row else None

    def keep_pin(self, name: str, value: str) -> None:
        """Remember something that never changes: what a source package's version holds."""
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?)", (name, value, int(time.time())))

    def note_deb(self, name: str, content: Digest, digest: Digest) -> None:
        """Remember of which file the tree `content` of a distribution's package ``NAME=VERSION`` was unpacked."""
        self.keep_pin(_deb_pin(name, content), digest)

    def deb(self, name: str, content: str) -> str | None:
        """The digest of the file of a distribution's package ``NAME=VERSION`` with this tree."""
        return self.pin(_deb_pin(name, content))


def _deb_pin(name: str, content: str) -> str:
    """Another architecture's package of that name and version has other content."""
    return f"deb {name} {content}"


def _sources_in_use(db: sqlite3.Connection) -> Iterator[str]:
    """The digests of what the packages and bases that are here were made of."""
    for (text,) in db.execute("SELECT record FROM packages"):
        record = json.loads(text)
        for source in record.get("sources", ()):
            yield from (digest for _, digest in source["files"])
        for name, content in record.get("dependencies", {}).items():
            pin = _deb_pin(name.removeprefix("debian/"), content)
            if name.startswith("debian/") and (
                row := db.execute("SELECT value FROM pins WHERE name=?", (pin,)).fetchone()
            ):
                yield row[0]
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='compositions'").fetchone() is not None:
        for (text,) in db.execute("SELECT record FROM compositions"):
            yield from (item["deb"] for item in json.loads(text)["packages"] if item.get("deb"))
    for (text,) in db.execute("SELECT packages FROM bases WHERE name LIKE 'made:%'"):
        yield from (item[3] for item in json.loads(text)["packages"])
