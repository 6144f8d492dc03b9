from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import StoreError
from boxwright.model.digest import digest_of
from boxwright.store.choose import Kept, choose
from boxwright.store.collect import GRACE_SECONDS, Wanted, collect
from boxwright.store.images import Images
from boxwright.store.measure import Account, Usage
from boxwright.store.store import Store
from boxwright.store.trees import names_below
from boxwright.store.usage import alone, using
from boxwright.store.verify import Verifier
from tests.unit.store.made import image, layer_names, snapshot, store_at, used

DATA = b"x" * 100_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = store_at(tmp_path)
    yield made
    made.close()


def test_all_keeps_what_has_a_name_and_what_it_stands_on(store: Store) -> None:
    base = snapshot(store, "base", {"etc/base": b"b"})
    top = snapshot(store, "top", {"etc/top": b"t"}, base)
    other = snapshot(store, "other", {"other": DATA}, base)
    image(store, top, "app:latest")
    image(store, other)
    done = collect(store, Wanted(everything=True))
    assert set(done.keys) == {other.key, base.key}
    assert (done.layers, done.in_use) == (1, False)
    assert done.before - done.after >= len(DATA)
    assert layer_names(store) == set(top.layers)
    assert [name for name, _ in Images(store).listing()] == ["app:latest"]
    assert Verifier(store).snapshot(top) == ()
    assert [path for path, _ in names_below(store.trees, store.root(top.manifest).full)] == [
        "etc",
        "etc/base",
        "etc/top",
    ]


def test_the_least_recently_used_goes_first(store: Store) -> None:
    made = [snapshot(store, str(n), {"file": DATA + bytes([n])}) for n in range(4)]
    for kept, moment in zip(made, (40, 10, 30, 20), strict=True):
        used(store, kept.key, moment)
    whole = collect(store, Wanted(dry_run=True))
    done = collect(store, Wanted(limit=whole.after - 150_000))
    assert done.keys == (made[1].key, made[3].key)
    assert layer_names(store) == {made[0].layers[0], made[2].layers[0]}


def test_a_step_under_one_that_was_used_lately_stays(store: Store) -> None:
    base = snapshot(store, "base", {"base": DATA})
    top = snapshot(store, "top", {"top": DATA}, base)
    alone_ = snapshot(store, "alone", {"alone": DATA})
    for kept, moment in ((base, 1), (top, 30), (alone_, 20)):
        used(store, kept.key, moment)
    whole = collect(store, Wanted(dry_run=True))
    assert collect(store, Wanted(limit=whole.after - 1)).keys == (alone_.key,)
    whole = collect(store, Wanted(dry_run=True))
    assert collect(store, Wanted(limit=whole.after - 1)).keys == (top.key,)


def test_without_need_nothing_goes_and_a_dry_run_changes_nothing(store: Store) -> None:
    kept = snapshot(store, "kept", {"file": DATA})
    assert collect(store, Wanted(limit=10**9)).keys == ()
    assert collect(store, Wanted(everything=True, dry_run=True)).keys == (kept.key,)
    assert store.snapshot(kept.key) == kept
    assert Verifier(store).snapshot(kept) == ()


def test_beside_a_build_what_was_used_lately_stays(store: Store) -> None:
    old, new = snapshot(store, "old", {"old": b""}), snapshot(store, "new", {"new": b""})
    used(store, old.key, int(time.time()) - GRACE_SECONDS - 5)
    with using(store.home):
        done = collect(store, Wanted(everything=True))
        assert (done.keys, done.in_use) == ((old.key,), True)
        assert done.layers == 0 or layer_names(store) >= set(new.layers)
    assert collect(store, Wanted(everything=True)).keys == (new.key,)


def test_a_layer_that_a_build_is_about_to_name_stays(store: Store) -> None:
    kept = snapshot(store, "kept", {"file": b""})
    with store.index.writing() as db:
        db.execute("DELETE FROM snapshots")
    with using(store.home):
        collect(store, Wanted())
        assert layer_names(store) == set(kept.layers)
    collect(store, Wanted())
    assert layer_names(store) == set()


def test_a_key_that_is_locked_stays(store: Store) -> None:
    kept = snapshot(store, "kept", {"file": b""})
    with store.lock(kept.key, lambda: False):
        assert collect(store, Wanted(everything=True)).keys == ()
    assert collect(store, Wanted(everything=True)).keys == (kept.key,)


def test_the_layers_of_a_container_stay(store: Store) -> None:
    kept, other = snapshot(store, "kept", {"file": b""}), snapshot(store, "other", {"file": b"2"})
    directory = Path(store.home.containers, "one")
    directory.mkdir()
    Path(store.home.containers, "in-the-making").mkdir()
    (directory / "config.json").write_text(json.dumps({"layers": list(kept.layers)}))
    collect(store, Wanted(everything=True))
    assert layer_names(store) == set(kept.layers) != set(other.layers)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"layers": 3}'])
def test_a_container_that_does_not_say_its_layers_stops_the_collection(store: Store, text: str) -> None:
    snapshot(store, "kept", {"file": b""})
    directory = Path(store.home.containers, "one")
    directory.mkdir()
    (directory / "config.json").write_text(text)
    before = layer_names(store)
    with pytest.raises(StoreError, match="which layers") as caught:
        collect(store, Wanted(everything=True))
    assert caught.value.code == "store.container-damaged"
    assert layer_names(store) == before


def test_stray_directories_and_rows_go(store: Store) -> None:
    kept = snapshot(store, "kept", {"a/b": b"1"})
    gone = snapshot(store, "gone", {"c/d": b"2"})
    image(store, kept, "kept:latest")
    Path(store.home.layers, "zzz").mkdir()
    store.keep_copy("slot", gone.key, "[]")
    done = collect(store, Wanted(everything=True))
    assert (done.strays, done.layers) == (1, 1)
    assert done.trees == 3  # the top, the root directory and c
    assert store.last_copy("slot") is None
    assert os.listdir(store.home.work) == [] or all(
        name.startswith(str(os.getpid())) for name in os.listdir(store.home.work)
    )


def test_the_trees_of_a_remembered_copy_stay(store: Store) -> None:
    kept, source = snapshot(store, "kept", {"file": b"1"}), snapshot(store, "source", {"a/b/c": b"2"})
    image(store, kept, "kept:latest")
    root = store.root(source.manifest)
    store.keep_copy("slot", kept.key, json.dumps([list(root)]))
    collect(store, Wanted(everything=True))
    assert [path for path, _ in names_below(type(store.trees)(store.index), root.full)] == ["a", "a/b", "a/b/c"]


def test_builds_and_collections_at_once(tmp_path: Path) -> None:
    """What a build has just committed is whole at any moment, whatever is collected beside it."""
    store_at(tmp_path).close()
    problems: list[str] = []
    stop = threading.Event()

    def build(number: int) -> None:
        own = store_at(tmp_path)
        with using(own.home):
            parent = None
            for step in range(20):
                parent = snapshot(own, f"{number}/{step}", {f"file{step}": bytes([number])}, parent)
                problems.extend(str(damage) for damage in Verifier(own).snapshot(parent))
        own.close()

    def gather() -> None:
        own = store_at(tmp_path)
        while not stop.is_set():
            collect(own, Wanted(everything=True))
        own.close()

    collector = threading.Thread(target=gather)
    builders = [threading.Thread(target=build, args=(number,)) for number in range(3)]
    for thread in (collector, *builders):
        thread.start()
    for thread in builders:
        thread.join()
    stop.set()
    collector.join()
    assert problems == []


def test_alone_is_alone(store: Store) -> None:
    with alone(store.home) as nobody:
        assert nobody
        with alone(store.home) as second:
            assert not second
    with using(store.home), using(store.home), alone(store.home) as nobody:
        assert not nobody


def test_hard_links_count_once_and_until_the_last_goes() -> None:
    account = Account({"a": Usage(10, {1: 100}), "b": Usage(5, {1: 100}), "c": Usage(1)})
    assert account.total == 116
    account.drop(["a"])
    assert account.total == 106
    account.drop(["b", "unknown"])
    assert account.total == 1


names = st.sampled_from("abcdef")
kept_snapshots = st.lists(
    st.builds(
        Kept,
        key=st.uuids().map(str),
        layers=st.lists(names, max_size=4, unique=True).map(tuple),
        used=st.integers(0, 9),
        protected=st.booleans(),
    ),
    max_size=8,
)


@given(kept_snapshots, st.sets(names), st.none() | st.integers(-1, 60))
def test_the_choice_never_takes_what_is_needed(snapshots: list[Kept], held: set[str], limit: int | None) -> None:
    account = Account({name: Usage(10) for name in "abcdef"})
    choice = choose(snapshots, "abcdef", held, account, limit)
    left = [it for it in snapshots if it.key not in choice.keys]
    assert not [it for it in snapshots if it.protected and it.key in choice.keys]
    assert not set(choice.layers) & (held | {name for it in left for name in it.layers})
    assert len(choice.layers) == len(set(choice.layers))
    assert account.total == 10 * (6 - len(choice.layers))
    if limit is not None and account.total > limit:
        assert all(it.protected for it in left)


def test_digest_of_is_what_names_a_state(store: Store) -> None:
    assert snapshot(store, "name", {}).key == digest_of(b"name")
