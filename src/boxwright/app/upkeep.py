"""Collection and verification of the store, as the command line asks for them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.errors import UsageError
from boxwright.model.image import Snapshot
from boxwright.store.store import Store

LIMIT_VARIABLE = "BOXWRIGHT_STORE_LIMIT"
DEFAULT_LIMIT = "20GB"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def parse_size(text: str, root: str = "/") -> int:
    """Bytes: 10GB, 512MiB, 1000, or a share of the file system that holds `root`, such as 10%."""
    if share := _SHARE.fullmatch(text.strip()):
        system = os.statvfs(root)
        return int(float(share[1]) / 100 * system.f_blocks * system.f_frsize)
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError("usage.size", f"{text!r} is no size", hint="such as 10GB, 512MiB or 10%")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " kmgt".index(found[2].lower() or " "))


def limit_of(environment: Mapping[str, str], root: str) -> int:
    """The most that the store may take."""
    return parse_size(environment.get(LIMIT_VARIABLE) or DEFAULT_LIMIT, root)


def is_over_limit(store: Store, environment: Mapping[str, str], *, caches: bool = False) -> bool:
    """Whether the layers hold more than the limit, by what was written; costs one query.

    With `caches` the directories of cache mounts are measured too: for builds that used some.
    """
    row = store.index.one("SELECT sum(size) FROM layers")
    written = (row[0] if row else 0) or 0
    limit = limit_of(environment, store.home.root)
    if caches and written <= limit:
        from boxwright.store.measure import usage_of

        ensure_privileges()
        usage = usage_of(store.home.caches)
        written += usage.private + sum(usage.shared.values())
    return bool(written > limit)


@dataclass(frozen=True, slots=True)
class CollectRequest:
    """What `gc` was asked: `limit` as the user wrote it."""

    limit: str = ""
    everything: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What went, and which limit holds."""

    snapshots: int
    layers: int
    trees: int
    before: int
    after: int
    limit: int
    in_use: bool
    caches: int = 0


def collect(request: CollectRequest, environment: Mapping[str, str]) -> CollectReport:
    """Remove what is not needed, and what was not used for longest until the limit holds."""
    from boxwright.app.blobcache import prune_blobs
    from boxwright.app.keptlayers import prune_layers
    from boxwright.store.afterboot import note_synced
    from boxwright.store.collect import Wanted
    from boxwright.store.collect import collect as collect_store
    from boxwright.store.packages import Packages

    with open_store(environment, shared=False) as store:
        ensure_privileges()
        root = store.home.root
        limit = parse_size(request.limit, root) if request.limit else limit_of(environment, root)
        done = collect_store(store, Wanted(limit, request.everything, request.dry_run))
        if not request.dry_run:
            Packages(store).prune(int(time.time()), everything=request.everything)
            prune_blobs(store, everything=request.everything)
            prune_layers(store, everything=request.everything)
            note_synced(store)
    return CollectReport(
        len(done.keys), done.layers + done.strays, done.trees, done.before, done.after, limit, done.in_use, done.caches
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is damaged: `what` it is (index, tree object, or a state's key), and in which way."""

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found: `lost` are names of images that were removed with their damaged states."""

    snapshots: int
    problems: tuple[Problem, ...]
    repaired: bool
    lost: tuple[str, ...]


def check(environment: Mapping[str, str], *, repair: bool) -> CheckReport:
    """Verify everything in the store; with `repair` forget what is damaged."""
    from boxwright.store.afterboot import note_verified
    from boxwright.store.collect import Wanted
    from boxwright.store.collect import collect as collect_store
    from boxwright.store.usage import upkeep
    from boxwright.store.verify import all_snapshots, damage_of_index, damaged_objects, forget

    with open_store(environment, shared=False) as store:
        ensure_privileges()
        with upkeep(store.home):
            index = damage_of_index(store)
            objects = damaged_objects(store)
            snapshots = all_snapshots(store)
            damaged = _damaged(store, snapshots)
            problems = (
                *(Problem("index", text) for text in index),
                *(Problem(f"tree object {full[:12]}", "has other bytes than its name says") for full in objects),
                *(problem for _, found in damaged for problem in found),
            )
            if not problems:
                note_verified(store)
            lost: list[str] = []
            repaired = repair and not index and bool(problems)
            if repaired:
                lost = forget(store, [snapshot.key for snapshot, _ in damaged], objects)
        if repaired:
            collect_store(store, Wanted())
    return CheckReport(len(snapshots), problems, repaired, tuple(lost))


def _damaged(store: Store, snapshots: list[Snapshot]) -> list[tuple[Snapshot, list[Problem]]]:
    from boxwright.store.verify import Verifier, short_key

    verifier = Verifier(store)
    names: dict[str, list[str]] = {}
    for name, key in store.index.all("SELECT tags.name, images.key FROM tags JOIN images USING (identity)"):
        names.setdefault(key, []).append(name)
    found: list[tuple[Snapshot, list[Problem]]] = []
    for snapshot in snapshots:
        damages = verifier.snapshot(snapshot)
        if damages:
            images = f" ({', '.join(names[snapshot.key])})" if snapshot.key in names else ""
            what = f"state {short_key(snapshot)}{images}"
            found.append((snapshot, [Problem(what, f"/{it.path} {it.text}" if it.path else it.text) for it in damages]))
    return found
