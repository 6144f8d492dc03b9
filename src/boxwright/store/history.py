"""What went into the last builds of each definition, so that `why` can say what changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from boxwright.model.digest import digest_of
from boxwright.store.store import Store

KEPT = 5


class StepRecord(NamedTuple):
    """One step of a build: its title, its key, and the digest and short text of each field of the key."""

    title: str
    key: str
    fields: tuple[tuple[str, str], ...]


def field_records(fields: Sequence[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Fields as the history keeps them: a value of more than 200 characters as its digest."""
    texts = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in fields)
    return tuple((name, text if len(text) <= 200 else digest_of(text.encode())) for name, text in texts)


class History:
    """The builds of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, definition: str, records: Sequence[StepRecord]) -> None:
        """Remember a build of `definition`, unless it is the same as the last one."""
        text = json.dumps([[record.title, record.key, record.fields] for record in records])
        row = self._store.index.one(
            "SELECT number, record FROM builds WHERE definition=? ORDER BY number DESC LIMIT 1", (definition,)
        )
        if row is not None and row[1] == text:
            return
        number = row[0] + 1 if row else 1
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO builds VALUES (?, ?, ?)", (definition, number, text))
            db.execute("DELETE FROM builds WHERE definition=? AND number<=?", (definition, number - KEPT))

    def last(self, definition: str) -> tuple[StepRecord, ...]:
        """The newest build of `definition`, empty where there is none."""
        row = self._store.index.one(
            "SELECT record FROM builds WHERE definition=? ORDER BY number DESC LIMIT 1", (definition,)
        )
        if row is None:
            return ()
        return tuple(
            StepRecord(title, key, tuple((name, value) for name, value in fields))
            for title, key, fields in json.loads(row[0])
        )
