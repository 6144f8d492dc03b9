"""Where layers come from: the step that made each, and the packages that a composed one holds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from boxwright.store.store import Store

TABLES = (
    "CREATE TABLE IF NOT EXISTS compositions (layer TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS makers (layer TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL,
      place TEXT NOT NULL) WITHOUT ROWID""",
)


class Maker(NamedTuple):
    """The step that made a layer: its kind (Run, Copy, Base, ...), title, and place in its definition."""

    layer: str
    kind: str
    title: str
    place: str


def forget_layers(db: sqlite3.Connection, layers: Sequence[str]) -> None:
    """Forget where layers come from that are no longer here."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='makers'").fetchone() is not None:
        names = [(layer,) for layer in layers]
        db.executemany("DELETE FROM makers WHERE layer=?", names)
        db.executemany("DELETE FROM compositions WHERE layer=?", names)


class Provenance:
    """What is known of the layers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        if store.index.one("SELECT 1 FROM sqlite_master WHERE name='makers'") is None:
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

    def keep_makers(self, makers: Sequence[Maker]) -> None:
        """Remember who made layers; those that are known stay."""
        with self._store.index.writing() as db:
            db.executemany("INSERT OR IGNORE INTO makers VALUES (?, ?, ?, ?)", makers)

    def maker(self, layer: str) -> Maker | None:
        """Who made a layer."""
        row = self._store.index.one("SELECT layer, kind, title, place FROM makers WHERE layer=?", (layer,))
        return Maker(*row) if row else None
