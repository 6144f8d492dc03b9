"""The index: one SQLite database that says what the store holds.

Write-ahead logging lets many processes read while one writes. A commit is not flushed to the disk: after a crash of the
machine the newest records may be missing, which costs a rebuild and never a wrong answer.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from boxwright.errors import StoreError

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE layers (id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE snapshots (key TEXT PRIMARY KEY, layers TEXT NOT NULL, full TEXT NOT NULL, content TEXT NOT NULL,
  epoch INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE trees (digest BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE links (full TEXT PRIMARY KEY, groups TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (identity TEXT PRIMARY KEY, config TEXT NOT NULL, key TEXT NOT NULL, created INTEGER NOT NULL,
  size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tags (name TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE bases (name TEXT PRIMARY KEY, key TEXT NOT NULL, config TEXT NOT NULL, digest TEXT NOT NULL,
  packages TEXT NOT NULL, fetched INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE copies (slot TEXT PRIMARY KEY, key TEXT NOT NULL, sources TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE builds (definition TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (definition, number)) WITHOUT ROWID;
CREATE TABLE artifacts (key TEXT PRIMARY KEY, value TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
"""

BUSY_SECONDS = 60.0
RETRY_SECONDS = 0.01


class Index:
    """One connection, shared by the threads of this process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as error:
            raise _failed(path, error) from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        self._db.execute("PRAGMA synchronous=NORMAL")
        if version == SCHEMA_VERSION:
            return
        if version != 0:
            raise StoreError(
                "store.version",
                f"{self._path} was made by another version of boxwright (format {version}, not {SCHEMA_VERSION})",
                hint="use that version, or another BOXWRIGHT_HOME",
            )
        self._write_ahead()
        with self.writing():
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _write_ahead(self) -> None:
        """Change the journal's mode, which SQLite's own waiting for locks does not cover."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._lock:
            try:
                row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                raise _failed(self._path, error) from error
            return row

    def all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _failed(self._path, error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer interrupts; nested ones join the outer one."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                if self._depth == 1:
                    self._db.execute("COMMIT")
            except BaseException as error:
                if self._depth == 1 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _failed(self._path, error) from error
                raise
            finally:
                self._depth -= 1


def _failed(path: str, error: sqlite3.Error) -> StoreError:
    text = str(error)
    if "full" in text:
        return StoreError("store.no-space", f"no space is left for {path}", hint="make room, or run 'boxwright gc'")
    if "readonly" in text or "unable to open" in text:
        return StoreError(
            "store.unusable",
            f"{path} can't be written: {text}",
            hint="set BOXWRIGHT_HOME to a directory of your own that can be written",
        )
    if "locked" in text:
        return StoreError("store.busy", f"{path} was locked for {BUSY_SECONDS:.0f} s by another process")
    return StoreError("store.damaged", f"{path}: {text}", hint="run 'boxwright fsck'")
