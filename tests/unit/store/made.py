"""Stores with small snapshots, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import ImageConfig, Snapshot
from boxwright.store.home import open_home
from boxwright.store.images import Images
from boxwright.store.store import Store

EPOCH = 1_600_000_000


def store_at(directory: Path) -> Store:
    return Store(open_home(str(directory / "store")))


def snapshot(store: Store, name: str, files: Mapping[str, bytes], parent: Snapshot | None = None) -> Snapshot:
    with store.draft(parent) as draft:
        for path, data in files.items():
            place = Path(draft.upper, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return store.commit(digest_of(name.encode()), parent, draft, newest=EPOCH)


def used(store: Store, key: Digest, moment: int) -> None:
    with store.index.writing() as db:
        db.execute("UPDATE snapshots SET used=? WHERE key=?", (moment, key))


def image(store: Store, kept: Snapshot, *tags: str) -> Digest:
    return Images(store).keep(ImageConfig("amd64"), kept, tags).identity


def layer_names(store: Store) -> set[str]:
    return {path.name for path in Path(store.home.layers).iterdir()}
