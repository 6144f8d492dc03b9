"""What images say of their composed layers: each for itself, as long as it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.model.image import Image, ImageConfig, Snapshot
from boxwright.store.images import Images
from boxwright.store.provenance import Provenance, forget_layers
from boxwright.store.store import Store
from tests.unit.store.made import snapshot, store_at

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers are made as root or in a user namespace")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = store_at(tmp_path)
    yield opened
    opened.close()


def kept(store: Store, tree: Snapshot, author: str, *tags: str) -> Image:
    return Images(store).keep(ImageConfig("amd64", author=author), tree, tags)


def licences(store: Store, image: Image) -> list[str]:
    return [item["about"] for items in Provenance(store).described(image).values() for item in items.values()]


def say(store: Store, image: Image, licence: str) -> None:
    Provenance(store).describe(image.identity, image.snapshot.layers[-1], [{"name": "x-1", "about": licence}])


def test_each_image_of_one_tree_says_its_own(store: Store) -> None:
    tree = snapshot(store, "tree", {"f": b"1"})
    first, second = kept(store, tree, "A", "first"), kept(store, tree, "B", "second")
    say(store, first, "MIT")
    assert licences(store, second) == []
    say(store, second, "ISC")
    assert (licences(store, first), licences(store, second)) == (["MIT"], ["ISC"])
    say(store, first, "GPL")
    assert (licences(store, first), licences(store, second)) == (["GPL"], ["ISC"])


def test_an_image_from_another_says_what_that_says_of_common_layers(store: Store) -> None:
    tree = snapshot(store, "tree", {"f": b"1"})
    base, other = kept(store, tree, "A", "base"), kept(store, tree, "B", "other")
    above = kept(store, snapshot(store, "above", {"g": b"2"}, tree), "C", "above")
    apart = kept(store, snapshot(store, "apart", {"h": b"3"}), "D", "apart")
    say(store, base, "MIT")
    say(store, other, "ISC")
    Provenance(store).inherit(above, tree.key)
    assert licences(store, above) == ["ISC"], "the newest of the images with that tree"
    Provenance(store).describe_like(above, base)
    Provenance(store).describe_like(apart, base)
    assert (licences(store, above), licences(store, apart)) == (["MIT"], [])


def test_it_goes_with_the_image_and_with_the_layer(store: Store) -> None:
    tree = snapshot(store, "tree", {"f": b"1"})
    first, second = kept(store, tree, "A", "first"), kept(store, tree, "B", "second")
    say(store, first, "MIT")
    say(store, second, "ISC")
    Images(store).remove("first")
    with store.index.writing() as db:
        forget_layers(db, [])
    assert (licences(store, first), licences(store, second)) == ([], ["ISC"])
    with store.index.writing() as db:
        forget_layers(db, tree.layers)
    assert licences(store, second) == []


def test_a_store_from_before_learns_it(store: Store) -> None:
    Provenance(store)
    with store.index.writing() as db:
        db.execute("DROP TABLE descriptions")
        forget_layers(db, ["none"])
    image = kept(store, snapshot(store, "tree", {"f": b"1"}), "A", "first")
    say(store, image, "MIT")
    assert licences(store, image) == ["MIT"]
