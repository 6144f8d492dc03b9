"""The directories of cache mounts.

``caches/KEY/`` belongs to one cache: ``cache.json`` says which, its time when the cache was used last; ``0/`` is its
directory, ``1/`` and so on are those of further private users at one time. ``N.lock`` beside it is shared by those who
share it, and held alone by a locked or private user. Whoever uses the cache shares ``use.lock``, so that nobody removes
it. The kernel drops locks with their processes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from boxwright.errors import BoxwrightError, StoreError
from boxwright.files import give_attributes, is_current, try_lock
from boxwright.model.canonical import encode
from boxwright.model.digest import digest_of, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import BLOCK, CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from boxwright.ports import CacheWanted, TreeFile
from boxwright.store.home import unusable
from boxwright.store.locks import POLL_SECONDS
from boxwright.store.store import Store

RECORD = "cache.json"
USE = "use.lock"
MOST_COPIES = 1000


class Cache(NamedTuple):
    """A cache that is there: `key` is its directory's name, `seed` the content it began with, `used` in seconds."""

    key: str
    name: str
    uid: int
    gid: int
    mode: int
    seed: str
    used: int


def cache_of(wanted: CacheWanted) -> Cache:
    """The cache that a mount means: as with BuildKit, one name with another owner, mode or seed is another cache."""
    seed = _seed_identity(wanted.seed)
    fields = (("name", wanted.name), ("uid", wanted.uid), ("gid", wanted.gid), ("mode", wanted.mode), ("seed", seed))
    return Cache(
        hex_of(digest_of(encode(fields)))[:20], wanted.name, wanted.uid, wanted.gid, wanted.mode, seed, int(time.time())
    )


def _seed_identity(seed: tuple[Snapshot, str] | None) -> str:
    return f"{hex_of(seed[0].manifest.content)}/{seed[1]}" if seed else ""


class StoredCaches:
    """All caches of a store. Safe for threads and for many processes at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def held(self, wanted: Sequence[CacheWanted], cancelled: Callable[[], bool]) -> Iterator[tuple[str, ...]]:
        """Their directories, locked as their sharing says; made where they are missing.

        Locks are taken in one order, so that no two steps wait for each other. Raises KeyboardInterrupt when cancelled.
        """
        found: dict[int, str] = {}
        once: dict[str, str] = {}
        with ExitStack() as locks:
            for number, cache in sorted(enumerate(map(cache_of, wanted)), key=lambda item: item[1].key):
                asked = wanted[number]
                sharing = _strictest(it.sharing for it in wanted if cache_of(it).key == cache.key)
                if cache.key not in once or sharing == "private":
                    once[cache.key] = self._one(cache, asked, sharing, locks, cancelled)
                found[number] = once[cache.key]
            yield tuple(found[number] for number in range(len(wanted)))

    def _one(
        self, cache: Cache, asked: CacheWanted, sharing: str, locks: ExitStack, cancelled: Callable[[], bool]
    ) -> str:
        """One directory, locked."""
        while (found := self._try(cache, asked, sharing, locks)) is None:
            if cancelled():
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)
        return found

    def _try(self, cache: Cache, asked: CacheWanted, sharing: str, locks: ExitStack) -> str | None:
        place = self._prepared(cache)
        with ExitStack() as taken:
            use = _locked(f"{place}/{USE}", alone=False)
            if use is None:
                return None
            taken.callback(os.close, use)
            if not is_current(f"{place}/{USE}", use):
                return None
            for copy in range(MOST_COPIES if sharing == "private" else 1):
                lock = _locked(f"{place}/{copy}.lock", alone=sharing != "shared")
                if lock is not None:
                    taken.callback(os.close, lock)
                    self._fill(f"{place}/{copy}", cache, asked)
                    locks.push(taken.pop_all())
                    return f"{place}/{copy}"
        return None

    def _prepared(self, cache: Cache) -> str:
        place = f"{self._store.home.caches}/{cache.key}"
        try:
            os.makedirs(place, mode=0o711, exist_ok=True)
            record = f"{place}/{RECORD}"
            if not os.path.exists(record):
                temporary = f"{record}.{os.urandom(4).hex()}"
                with open(temporary, "w", encoding="utf-8") as file:
                    json.dump({name: value for name, value in cache._asdict().items() if name != "used"}, file)
                os.rename(temporary, record)
            os.utime(record)
        except FileNotFoundError:  # removed meanwhile: the caller sees that when it has the lock
            return place
        except OSError as error:
            raise unusable(self._store.home.root, error) from error
        return place

    def _fill(self, directory: str, cache: Cache, asked: CacheWanted) -> None:
        """Make it where it is missing: whole or not at all, whoever else shares it."""
        if os.path.isdir(directory):
            return
        temporary = f"{directory}.{os.urandom(4).hex()}"
        try:
            os.mkdir(temporary, 0o700)
            os.chown(temporary, cache.uid, cache.gid)
            os.chmod(temporary, cache.mode)
            if asked.seed:
                copy_out(self._store, *asked.seed, temporary)
            os.rename(temporary, directory)
        except FileExistsError:
            shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not os.path.isdir(directory):
                raise unusable(self._store.home.root, error) from error

    def all(self) -> list[Cache]:
        """Every cache, in the order of names."""
        return sorted(self._read(), key=lambda cache: (cache.name, cache.key))

    def _read(self) -> Iterator[Cache]:
        if not os.path.isdir(self._store.home.caches):
            return
        for key in os.listdir(self._store.home.caches):
            path = f"{self._store.home.caches}/{key}/{RECORD}"
            try:
                with open(path, encoding="utf-8") as file:
                    yield Cache(used=int(os.fstat(file.fileno()).st_mtime), **json.load(file))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (ValueError, TypeError) as error:
                message = f"{path} does not say which cache it is"
                raise StoreError("store.cache-damaged", message, hint=f"remove {os.path.dirname(path)}") from error

    @contextmanager
    def directory(self, cache: Cache) -> Iterator[str]:
        """A cache's directory, which nobody changes meanwhile. Raises BoxwrightError `cache.in-use`."""
        with ExitStack() as locks:
            yield self._one(cache, CacheWanted(cache.name), "locked", locks, lambda: _in_use(cache.name))

    def replace(self, cache: Cache, source: str) -> None:
        """Make `source`, a directory on the store's file system, the cache's content; it gets the cache's owner."""
        with self.directory(cache) as place:
            os.chown(source, cache.uid, cache.gid)
            os.chmod(source, cache.mode)
            aside = f"{source}.old"
            os.rename(place, aside)
            os.rename(source, place)
            shutil.rmtree(aside, ignore_errors=True)

    def remove(self, cache: Cache, trash: str) -> bool:
        """Move a cache to `trash`, unless it is in use; returns whether."""
        place = f"{self._store.home.caches}/{cache.key}"
        lock = _locked(f"{place}/{USE}", alone=True)
        if lock is None:
            return False
        try:
            os.rename(place, f"{trash}/cache-{cache.key}")
        finally:
            os.close(lock)
        return True

    def is_used(self, cache: Cache) -> bool:
        """Whether some process uses it now."""
        lock = _locked(f"{self._store.home.caches}/{cache.key}/{USE}", alone=True)
        if lock is not None:
            os.close(lock)
        return lock is None


def _in_use(name: str) -> bool:
    raise BoxwrightError("cache.in-use", f"the cache {name!r} is in use", hint="wait until that build has ended")


def _strictest(sharings: Iterator[str]) -> str:
    given = set(sharings)
    return next(sharing for sharing in ("private", "locked", "shared") if sharing in given)


def _locked(path: str, *, alone: bool) -> int | None:
    """A descriptor that holds the lock, None where others do."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    if not try_lock(descriptor, shared=not alone):
        os.close(descriptor)
        return None
    return descriptor


def copy_out(store: Store, snapshot: Snapshot, path: str, directory: str) -> None:
    """Fill `directory` with what lies below `path` of a snapshot: files of its own, since they will be changed."""
    prefix = f"{path}/" if path else ""
    made: dict[str, str] = {}
    directories: list[tuple[str, Entry]] = []
    for item in store.walk(snapshot):
        if not item.path or not item.path.startswith(prefix) or item.entry.kind in (CHAR, BLOCK):
            continue
        target = f"{directory}/{item.path.removeprefix(prefix)}"
        _copy(store, snapshot, item, target, made)
        made[item.path] = target
        if item.entry.kind == DIRECTORY:
            directories.append((target, item.entry))
        elif item.entry.kind != HARDLINK:
            give_attributes(target, item.entry)
    for target, entry in reversed(directories):
        give_attributes(target, entry)


def _copy(store: Store, snapshot: Snapshot, item: TreeFile, target: str, made: dict[str, str]) -> None:
    entry = item.entry
    if entry.kind == DIRECTORY:
        os.mkdir(target, 0o700)
    elif entry.kind == SYMLINK:
        os.symlink(entry.data, target)
    elif entry.kind == HARDLINK and entry.data in made:
        os.link(made[entry.data], target, follow_symlinks=False)
    elif entry.kind in (FILE, HARDLINK):
        source = item.physical if entry.kind == FILE else store.physical(snapshot, entry.data)
        if source is None:
            raise StoreError("store.tree-changed", f"/{item.path} of the store is gone", hint="run 'boxwright fsck'")
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        os.mkfifo(target)
