"""Removes rows and tree objects that no snapshot leads to."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator

from boxwright.errors import StoreError
from boxwright.model.digest import Digest, hex_of
from boxwright.model.tree import DIRECTORY
from boxwright.store.index import Index
from boxwright.store.trees import Trees

BATCH = 1000
REMEMBERED_SECONDS = 90 * 24 * 3600

ORPHANS = (
    "DELETE FROM images WHERE key NOT IN (SELECT key FROM snapshots)",
    "DELETE FROM tags WHERE identity NOT IN (SELECT identity FROM images)",
    "DELETE FROM copies WHERE key NOT IN (SELECT key FROM snapshots)",
    "DELETE FROM links WHERE full NOT IN (SELECT full FROM snapshots)",
)


def prune_rows(db: sqlite3.Connection, now: int, *, everything: bool) -> None:
    """Rows that speak of snapshots which are gone, and what was remembered of the world long ago."""
    for statement in ORPHANS:
        db.execute(statement)
    before = now + 1 if everything else now - REMEMBERED_SECONDS
    db.execute("DELETE FROM artifacts WHERE used<?", (before,))
    db.execute("DELETE FROM bases WHERE fetched<? AND name NOT LIKE 'made:%'", (before,))
    db.execute("DELETE FROM bases WHERE name LIKE 'made:%' AND substr(name, 6) NOT IN (SELECT content FROM snapshots)")


def sweep_trees(index: Index, trees: Trees) -> int:
    """Remove tree objects that neither a snapshot nor a remembered COPY leads to. For a process that is alone."""
    with index.writing() as db:
        reachable = _reachable(trees, _roots(db))
        gone = [digest for digest in _digests(db) if digest not in reachable]
        db.executemany("DELETE FROM trees WHERE digest=?", [(digest,) for digest in gone])
    return len(gone)


def _roots(db: sqlite3.Connection) -> list[str]:
    roots = [hex_of(Digest(row[0])) for row in db.execute("SELECT DISTINCT full FROM snapshots")]
    for (sources,) in db.execute("SELECT sources FROM copies"):
        roots.extend(entry[7][:64] for entry in json.loads(sources) if entry[0] == DIRECTORY)
    return roots


def _reachable(trees: Trees, roots: list[str]) -> set[bytes]:
    seen = {bytes.fromhex(root) for root in roots}
    pending = list(roots)
    while pending:
        full = pending.pop()
        try:
            entries = trees.entries(full)
        except StoreError:
            continue  # what is damaged is for fsck to tell; here nothing more can be reached through it
        for entry in entries.values():
            if entry.kind == DIRECTORY and (digest := bytes.fromhex(entry.full)) not in seen:
                seen.add(digest)
                pending.append(entry.full)
    return seen


def _digests(db: sqlite3.Connection) -> Iterator[bytes]:
    last = b""
    while rows := db.execute(
        "SELECT digest FROM trees WHERE digest>? ORDER BY digest LIMIT ?", (last, BATCH)
    ).fetchall():
        for (digest,) in rows:
            yield digest
        last = rows[-1][0]


def sweep_dumps(index: Index, directory: str, before: float | None) -> int:
    """Remove first contents of databases that no image names; only those older than `before`, where it is given."""
    if not os.path.isdir(directory):
        return 0
    named = {
        database["dump"].removeprefix("sha256:")
        for (config,) in index.all("SELECT config FROM images WHERE config LIKE '%\"databases\"%'")
        for database in json.loads(config).get("databases", ())
    }
    gone = 0
    with os.scandir(directory) as listing:
        for item in listing:
            if item.name not in named and (before is None or item.stat().st_mtime < before):
                os.unlink(item.path)
                gone += 1
    return gone
