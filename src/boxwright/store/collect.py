"""Collection of what is no longer needed, within a limit of size. Safe beside builds.

What runs shares a lock (`usage`). Where nobody does, everything may go that is not named. Else what was used lately
stays: a build touches what it reuses when it begins, so `GRACE_SECONDS` is how long a build may take.
A layer goes out of the index first, in a transaction; then its directory is moved away, then removed. Killed at any
moment, what is left is a directory that nothing names, for the next collection.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from boxwright.errors import StoreError
from boxwright.model.digest import Digest, hex_of
from boxwright.store.caches import Cache, StoredCaches
from boxwright.store.choose import Choice, Kept, choose
from boxwright.store.layers import layer_name
from boxwright.store.locks import hold, is_held
from boxwright.store.measure import Account, beside_layers, usage_of
from boxwright.store.provenance import forget_layers
from boxwright.store.store import Store
from boxwright.store.sweep import prune_rows, sweep_dumps, sweep_trees
from boxwright.store.usage import alone, upkeep

GRACE_SECONDS = 2 * 3600


@dataclass(frozen=True, slots=True)
class Wanted:
    """`limit` bytes are to be left at most, None for no limit. `everything`: all that is not needed goes."""

    limit: int | None = None
    everything: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """What went (or would): keys of snapshots, layers, stray directories, tree objects, caches; bytes before and after.

    `in_use`: other processes were at work, so what was used lately stayed.
    """

    keys: tuple[str, ...]
    layers: int
    strays: int
    trees: int
    before: int
    after: int
    in_use: bool
    caches: int = 0


def collect(store: Store, wanted: Wanted, *, now: int | None = None) -> Collected:
    """Do it. The process must not be `using` the store itself."""
    moment = int(time.time()) if now is None else now
    with upkeep(store.home), alone(store.home) as nobody, _trash(store) as trash:
        usages = {name: usage_of(f"{store.home.layers}/{name}") for name in os.listdir(store.home.layers)}
        beside = beside_layers(store.home)
        caches = StoredCaches(store)
        cached = {f"cache {cache.key}": cache for cache in caches.all()}
        usages |= {name: usage_of(f"{store.home.caches}/{cache.key}") for name, cache in cached.items()}
        with store.index.writing() as db:
            known = {layer_name(row[0]): row[0] for row in db.execute("SELECT id FROM layers")}
            present = set(os.listdir(store.home.layers))
            strays = sorted(present - known.keys())
            account = Account(usages)
            before = account.total + beside
            account.drop(strays)
            kept = _kept(store, db, moment, nobody=nobody) + _kept_caches(caches, cached)
            held = _held(store, known, moment, nobody=nobody)
            choice = choose(kept, known, held, account, _room(wanted, beside))
            emptied = [cached[name] for name in choice.keys if name in cached]
            choice.keys = [key for key in choice.keys if key not in cached]
            choice.layers = [name for name in choice.layers if name not in cached]
            if not wanted.dry_run:
                _forget(db, choice, known)
                prune_rows(db, moment, everything=wanted.everything)
                # Within the transaction: without it another process could give a stray's name to a new layer.
                _move(store, strays, trash)
        trees = 0
        if not wanted.dry_run:
            _move(store, choice.layers, trash)
            emptied = [cache for cache in emptied if caches.remove(cache, trash)]
            trees = sweep_trees(store.index, store.trees) if nobody else 0
            _compact(store, nobody=nobody)
            sweep_dumps(store.index, store.home.dumps, None if nobody else moment - GRACE_SECONDS)
        gone = sum(name in present for name in choice.layers)
        after = account.total + beside
        return Collected(tuple(choice.keys), gone, len(strays), trees, before, after, not nobody, len(emptied))


def _room(wanted: Wanted, beside: int) -> int | None:
    if wanted.everything:
        return -1
    return None if wanted.limit is None else max(0, wanted.limit - beside)


def _kept(store: Store, db: sqlite3.Connection, now: int, *, nobody: bool) -> list[Kept]:
    named = {row[0] for row in db.execute("SELECT images.key FROM images JOIN tags USING (identity)")}
    return [
        Kept(
            key,
            tuple(layers.split()),
            used,
            key in named or (not nobody and used > now - GRACE_SECONDS) or _is_locked(store, key),
        )
        for key, layers, used in db.execute("SELECT key, layers, used FROM snapshots")
    ]


def _kept_caches(caches: StoredCaches, cached: Mapping[str, Cache]) -> list[Kept]:
    """Caches go by their last use like snapshots; each is the one layer that holds its bytes."""
    return [Kept(name, (name,), cache.used, caches.is_used(cache)) for name, cache in cached.items()]


def _held(store: Store, known: Mapping[str, int], now: int, *, nobody: bool) -> set[str]:
    held = container_layers(store.home.containers)
    if not nobody:
        held |= {name for name in known if _is_fresh(f"{store.home.layers}/{name}", now)}
    return held


def _is_locked(store: Store, key: str) -> bool:
    return is_held(f"{store.home.locks}/{hex_of(Digest(key))}")


def _is_fresh(directory: str, now: int) -> bool:
    """Whether the layer came lately: a build may be about to name it."""
    try:
        return os.lstat(directory).st_ctime > now - GRACE_SECONDS
    except FileNotFoundError:
        return False


def container_layers(containers: str) -> set[str]:
    """The layers that containers stand on."""
    layers: set[str] = set()
    for name in sorted(os.listdir(containers)):
        path = f"{containers}/{name}/config.json"
        try:
            with open(path, encoding="utf-8") as file:
                layers.update(json.load(file)["layers"])
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                "store.container-damaged", f"{path} does not say which layers it needs", hint=f"boxwright rm -f {name}"
            ) from error
    return layers


def _forget(db: sqlite3.Connection, choice: Choice, known: dict[str, int]) -> None:
    db.executemany("DELETE FROM snapshots WHERE key=?", [(key,) for key in choice.keys])
    db.executemany("DELETE FROM layers WHERE id=?", [(known[name],) for name in choice.layers])
    forget_layers(db, choice.layers)


@contextmanager
def _trash(store: Store) -> Iterator[str]:
    """A directory that is removed at the end; by the next process where this one is killed."""
    directory = f"{store.home.work}/gc{os.getpid()}"
    lock = f"{directory}.lock"
    descriptor = hold(lock)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(FileNotFoundError):  # a process that looked before the lock was taken may have cleaned it up
            os.unlink(lock)
        os.close(descriptor)


def _move(store: Store, names: list[str], trash: str) -> None:
    for name in names:
        try:
            os.rename(f"{store.home.layers}/{name}", f"{trash}/{name}")
        except FileNotFoundError:
            continue


def _compact(store: Store, *, nobody: bool) -> None:
    """Give the index's free pages back where they are many."""
    free = store.index.one("PRAGMA freelist_count") or (0,)
    pages = store.index.one("PRAGMA page_count") or (0,)
    if nobody and free[0] * 4 > pages[0]:
        store.index.one("VACUUM")
    store.index.one("PRAGMA wal_checkpoint(TRUNCATE)")
