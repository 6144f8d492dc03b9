"""Cache mounts as the command line asks for them: listed, exported, seeded and emptied."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.errors import BoxwrightError, UsageError
from boxwright.ports import CacheWanted
from boxwright.store.caches import Cache, StoredCaches, cache_of
from boxwright.store.measure import usage_of
from boxwright.store.store import Store

FEWEST_DIGITS = 6


class ListedCache(NamedTuple):
    """A cache and what it takes: `size` in bytes, `used` in seconds since 1970."""

    key: str
    name: str
    uid: int
    gid: int
    mode: str
    seeded: bool
    size: int
    used: int
    in_use: bool


def list_caches(environment: Mapping[str, str]) -> list[ListedCache]:
    """All of them."""
    with _opened(environment) as (store, caches):
        return [_listed(store, caches, cache) for cache in caches.all()]


def _listed(store: Store, caches: StoredCaches, cache: Cache) -> ListedCache:
    usage = usage_of(f"{store.home.caches}/{cache.key}")
    size = usage.private + sum(usage.shared.values())
    mode, used = f"{cache.mode:04o}", cache.used
    return ListedCache(
        cache.key, cache.name, cache.uid, cache.gid, mode, bool(cache.seed), size, used, caches.is_used(cache)
    )


def export_cache(environment: Mapping[str, str], name: str, destination: str) -> None:
    """Write a cache's content into a new directory, or an archive where `destination` ends in ``.tar``."""
    if os.path.lexists(destination):
        hint = "name a directory or archive that is not there yet"
        raise BoxwrightError("cache.destination", f"{destination} is there already", hint=hint)
    with _opened(environment) as (_, caches), caches.directory(_find(caches, name)) as place:
        if destination.endswith(".tar"):
            words = ["tar", "--numeric-owner", "--sort=name", "--xattrs", "-C", place, "-cf", destination, "."]
        else:
            words = ["cp", "-a", "--no-target-directory", "--", place, destination]
        _run(words, destination)


def import_cache(environment: Mapping[str, str], wanted: CacheWanted, source: str) -> None:
    """Make what a directory or an archive holds the content of a cache, which is made where it is missing.

    From a directory all belongs to the cache's owner; an archive says itself to whom.
    """
    if not os.path.exists(source):
        raise UsageError("cache.source", f"there is no {source}")
    source = os.path.abspath(source)
    with _opened(environment) as (_store, caches):
        cache = cache_of(wanted)
        found = [item for item in caches.all() if item.name == wanted.name]
        if len(found) == 1 and wanted == CacheWanted(wanted.name):
            cache = found[0]
        with caches.directory(cache) as place:
            content = f"{os.path.dirname(place)}/import.{os.getpid()}"
        try:
            os.mkdir(content, 0o700)
            _fill(content, source, cache)
            caches.replace(cache, content)
        finally:
            shutil.rmtree(content, ignore_errors=True)


def _fill(directory: str, source: str, cache: Cache) -> None:
    if os.path.isdir(source):
        _run(["cp", "-a", "--no-preserve=ownership", "--no-target-directory", "--", source, directory], source)
        _run(["chown", "-R", "-h", f"{cache.uid}:{cache.gid}", directory], source)
        return
    from boxwright.sources.unpack import unpack_tar

    unpack_tar(source, directory)


def clear_caches(environment: Mapping[str, str], names: tuple[str, ...], *, everything: bool) -> int:
    """Remove caches; all of a name. Returns how many. Raises BoxwrightError `cache.in-use` for the first in use."""
    with _opened(environment) as (store, caches):
        known = caches.all()
        chosen = known if everything else [cache for name in names for cache in _named(known, name)]
        trash = f"{store.home.work}/caches{os.getpid()}"
        os.makedirs(trash, mode=0o700, exist_ok=True)
        try:
            for cache in dict.fromkeys(chosen):
                if not caches.remove(cache, trash):
                    hint = "wait until the build that uses it has ended"
                    raise BoxwrightError("cache.in-use", f"the cache {cache.name!r} is in use", hint=hint)
        finally:
            shutil.rmtree(trash, ignore_errors=True)
    return len(chosen)


@contextmanager
def _opened(environment: Mapping[str, str]) -> Iterator[tuple[Store, StoredCaches]]:
    with open_store(environment) as store:
        ensure_privileges()
        yield store, StoredCaches(store)


def _find(caches: StoredCaches, name: str) -> Cache:
    """The one cache of this name. Raises BoxwrightError where several have it, with other owners, modes or seeds."""
    found = _named(caches.all(), name)
    if len(found) > 1:
        keys = ", ".join(cache.key[:12] for cache in found)
        message = f"{len(found)} caches are named {name!r}"
        raise BoxwrightError("cache.ambiguous", message, hint=f"name one by its key: {keys}")
    return found[0]


def _named(known: list[Cache], name: str) -> list[Cache]:
    found = [cache for cache in known if cache.name == name]
    if not found and len(name) >= FEWEST_DIGITS:
        found = [cache for cache in known if cache.key.startswith(name)]
    if not found:
        hint = "'boxwright cache list' shows those that are there"
        raise BoxwrightError("cache.unknown", f"there is no cache {name!r}", hint=hint)
    return found


def _run(words: list[str], about: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BoxwrightError("cache.copy", f"{about}: {said[-1] if said else words[0] + ' failed'}")
