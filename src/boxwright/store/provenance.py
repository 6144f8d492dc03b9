"""Where layers come from: the step that made each, and the packages that a composed one holds."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from boxwright.model.digest import Digest
from boxwright.model.image import Image
from boxwright.store.store import Store

TABLES = (
    "CREATE TABLE IF NOT EXISTS compositions (layer TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS makers (layer TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL,
      place TEXT NOT NULL) WITHOUT ROWID""",
    # at: in nanoseconds, when it was said
    """CREATE TABLE IF NOT EXISTS descriptions (image TEXT NOT NULL, layer TEXT NOT NULL, packages TEXT NOT NULL,
      at INTEGER NOT NULL, PRIMARY KEY (image, layer)) WITHOUT ROWID""",
)
NEWEST_TABLE = "SELECT 1 FROM sqlite_master WHERE name='descriptions'"
"""A store that has it has the others too."""


class Maker(NamedTuple):
    """The step that made a layer: its kind (Run, Copy, Base, ...), title, and place in its definition."""

    layer: str
    kind: str
    title: str
    place: str


def forget_layers(db: sqlite3.Connection, layers: Sequence[str]) -> None:
    """Forget where layers come from that are no longer here."""
    if db.execute(NEWEST_TABLE).fetchone() is not None:
        names = [(layer,) for layer in layers]
        db.executemany("DELETE FROM descriptions WHERE layer=?", names)
        db.execute("DELETE FROM descriptions WHERE image NOT IN (SELECT identity FROM images)")
        db.executemany("DELETE FROM makers WHERE layer=?", names)
        db.executemany("DELETE FROM compositions WHERE layer=?", names)


class Provenance:
    """What is known of the layers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        if store.index.one(NEWEST_TABLE) is None:
            with store.index.writing() as db:
                for statement in TABLES:
                    db.execute(statement)

    def keep_composition(self, layer: str, record: Mapping[str, Any]) -> None:
        """Remember which packages a layer was composed of."""
        text = json.dumps(record, separators=(",", ":"))
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO compositions VALUES (?, ?)", (layer, text))

    def composition(self, layer: str) -> dict[str, Any] | None:
        """What a layer was composed of; None for a layer that was made otherwise."""
        row = self._store.index.one("SELECT record FROM compositions WHERE layer=?", (layer,))
        found: dict[str, Any] | None = json.loads(row[0]) if row else None
        return found

    def describe(self, image: Digest, layer: str, packages: Sequence[Mapping[str, Any]]) -> None:
        """Remember what an image says of the packages of a composed layer, which other images may have too."""
        self._describe(image, layer, json.dumps(packages, separators=(",", ":")))

    def _describe(self, image: Digest, layer: str, text: str) -> None:
        found = self._store.index.one("SELECT packages FROM descriptions WHERE image=? AND layer=?", (image, layer))
        if found is None or found[0] != text:
            with self._store.index.writing() as db:
                row = (image, layer, text, time.time_ns())
                db.execute("INSERT OR REPLACE INTO descriptions VALUES (?, ?, ?, ?)", row)

    def inherit(self, image: Image, key: Digest) -> None:
        """Let an image say of its composed layers what that with the snapshot `key` says, the newest where several are.

        What was never described stays as it is.
        """
        rows = self._store.index.all(
            "SELECT layer, packages FROM descriptions JOIN images ON images.identity = descriptions.image"
            " WHERE images.key=? AND images.identity<>? ORDER BY at",
            (key, image.identity),
        )
        self._take_over(image, dict(rows))

    def describe_like(self, image: Image, other: Image) -> None:
        """Let an image say of the composed layers that it has of another one what that says."""
        rows = self._store.index.all("SELECT layer, packages FROM descriptions WHERE image=?", (other.identity,))
        self._take_over(image, dict(rows))

    def _take_over(self, image: Image, said: Mapping[str, str]) -> None:
        for layer, packages in said.items():
            if layer in image.snapshot.layers:
                self._describe(image.identity, layer, packages)

    def described(self, image: Image) -> dict[str, dict[str, Mapping[str, Any]]]:
        """What an image says of its composed layers: by layer and package's name."""
        rows = self._store.index.all("SELECT layer, packages FROM descriptions WHERE image=?", (image.identity,))
        return {layer: {item["name"]: item for item in json.loads(text)} for layer, text in rows}

    def keep_makers(self, makers: Sequence[Maker]) -> None:
        """Remember who made layers; those that are known stay."""
        with self._store.index.writing() as db:
            db.executemany("INSERT OR IGNORE INTO makers VALUES (?, ?, ?, ?)", makers)

    def maker(self, layer: str) -> Maker | None:
        """Who made a layer."""
        row = self._store.index.one("SELECT layer, kind, title, place FROM makers WHERE layer=?", (layer,))
        return Maker(*row) if row else None
