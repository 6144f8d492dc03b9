from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwright.model.image import Snapshot
from boxwright.store import layers
from boxwright.store.afterboot import AfterBoot, note_synced, note_verified
from boxwright.store.collect import Wanted, collect
from boxwright.store.store import Store
from boxwright.store.verify import Verifier, all_snapshots, damage_of_index, damaged_objects, forget
from tests.unit.store.made import image, snapshot, store_at


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = store_at(tmp_path)
    yield made
    made.close()


def rich_snapshot(store: Store) -> Snapshot:
    base = snapshot(store, "base", {"a/file": b"content", "a/other": b"", "b/c/d": b"deep"})
    with store.draft(base) as draft:
        top = Path(draft.upper)
        (top / "a").mkdir()
        (top / "a/file").write_bytes(b"changed")
        (top / "a/file").chmod(0o4755)
        (top / "link").symlink_to("a/file")
        (top / "one").write_bytes(b"linked")
        (top / "two").hardlink_to(top / "one")
        os.mkfifo(top / "fifo")
        os.setxattr(top / "one", "user.test", b"1")
        return store.commit(snapshot_key("rich"), base, draft, newest=1)


def snapshot_key(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    from boxwright.model.digest import digest_of

    return digest_of(name.encode())


def physical(store: Store, kept: Snapshot, path: str) -> Path:
    found = store.physical(kept, path)
    assert found is not None
    return Path(found)


def test_what_was_committed_is_well(store: Store) -> None:
    rich_snapshot(store)
    verifier = Verifier(store)
    assert [verifier.snapshot(kept) for kept in all_snapshots(store)] == [(), ()]
    assert (damaged_objects(store), damage_of_index(store)) == ([], [])


def _overwrite(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _replace(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("path", "damage", "text"),
    [
        ("a/file", _overwrite, "has other bytes"),
        ("a/file", lambda path: path.write_bytes(b""), "has 0 bytes, not 7"),
        ("a/file", lambda path: path.chmod(0o755), "has mode 755, not 4755"),
        ("b/c/d", Path.unlink, "is missing"),
        ("b/c", lambda path: (path / "more").touch(), "is not in the manifest"),
        ("b/c/d", _replace, "is of kind l, not f"),
        ("link", _replace, "leads elsewhere"),
        ("one", lambda path: os.removexattr(path, "user.test"), "has other extended attributes"),
        ("two", _overwrite, "has other bytes"),
        ("fifo", Path.unlink, "is missing"),
    ],
)
def test_each_damage_is_named(store: Store, path: str, damage: Callable[[Path], object], text: str) -> None:
    kept = rich_snapshot(store)
    damage(physical(store, kept, path))
    assert text in [found.text for found in Verifier(store).snapshot(kept)]


def test_a_changed_owner_is_named(store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("gives a file away")
    kept = rich_snapshot(store)
    os.chown(physical(store, kept, "b/c/d"), 5, 6)
    assert [str(found.text) for found in Verifier(store).snapshot(kept)] == ["belongs to 5:6, not 0:0"]


def test_damage_in_a_shared_layer_is_damage_of_each_that_shows_it(store: Store) -> None:
    kept = rich_snapshot(store)
    base = all_snapshots(store)[0]
    _overwrite(Path(store.home.layers, base.layers[0], "a/file"))  # hidden by the upper layer
    verifier = Verifier(store)
    assert verifier.snapshot(kept) == ()
    assert [found.path for found in verifier.snapshot(base)] == ["a/file"]
    _overwrite(Path(store.home.layers, base.layers[0], "b/c/d"))
    verifier = Verifier(store)
    assert [found.path for found in verifier.snapshot(kept)] == ["b/c/d"]
    assert sorted(found.path for found in verifier.snapshot(base)) == ["a/file", "b/c/d"]


def test_a_missing_layer_and_a_missing_tree_are_named(store: Store) -> None:
    kept = rich_snapshot(store)
    with store.index.writing() as db:
        db.execute("DELETE FROM trees WHERE digest=?", (bytes.fromhex(store.root(kept.manifest).full),))
    store.trees._cache.clear()
    assert "is missing" in Verifier(store).snapshot(kept)[0].text
    Path(store.home.layers, kept.layers[0]).rename(Path(store.home.work, "away"))
    assert Verifier(store).snapshot(kept)[0].text == f"the layer {kept.layers[0]} is missing"


def test_a_damaged_tree_object_is_found_and_can_be_written_again(store: Store) -> None:
    kept = snapshot(store, "one", {"a/file": b"1"})
    image(store, kept, "app:latest")
    full = store.root(kept.manifest).full
    with store.index.writing() as db:
        db.execute("UPDATE trees SET data=x'00' WHERE digest=?", (bytes.fromhex(full),))
    store.trees._cache.clear()
    assert damaged_objects(store) == [full]
    assert Verifier(store).snapshot(kept)
    assert forget(store, [kept.key], [full]) == ["app:latest"]
    collect(store, Wanted())
    assert store.snapshot(kept.key) is None
    again = snapshot(store, "one", {"a/file": b"1"})
    assert again.manifest == kept.manifest
    assert (damaged_objects(store), Verifier(store).snapshot(again)) == ([], ())


def test_merged_layers_are_well(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_CHAIN", 4)
    kept = rich_snapshot(store)
    for number in range(8):
        kept = snapshot(store, str(number), {f"a/{number}": bytes([number])}, kept)
    assert len(kept.layers) <= 4
    assert Verifier(store).snapshot(kept) == ()


def _restart(store: Store) -> None:
    with store.index.writing() as db:
        db.execute("UPDATE layers SET boot='another' WHERE boot<>''")


def _doubtful(store: Store) -> int:
    return len(store.index.all("SELECT id FROM layers WHERE boot='another'"))


def test_after_a_restart_what_is_reused_is_compared_once(store: Store) -> None:
    kept = rich_snapshot(store)
    prepared: list[int] = []
    assert AfterBoot(store, lambda: prepared.append(1)).snapshot(kept.key) == kept
    assert prepared == []
    _restart(store)
    assert AfterBoot(store, lambda: prepared.append(1)).snapshot(kept.key) == kept
    assert (prepared, _doubtful(store)) == ([1], 0)
    assert AfterBoot(store, lambda: prepared.append(1)).snapshot(kept.key) == kept
    assert prepared == [1]


def test_after_a_restart_what_is_damaged_is_forgotten(store: Store) -> None:
    kept = rich_snapshot(store)
    base = all_snapshots(store)[0]
    _restart(store)
    Path(store.home.layers, base.layers[0], "a/file").write_bytes(b"")  # shown by the base alone
    looking = AfterBoot(store)
    assert looking.snapshot(kept.key) == kept
    assert looking.snapshot(base.key) is None
    _restart(store)
    physical(store, kept, "one").write_bytes(b"")
    with store.index.writing() as db:
        db.execute("UPDATE layers SET boot='another'")
    assert AfterBoot(store).snapshot(kept.key) is None
    assert all_snapshots(store) == []


@pytest.mark.parametrize("note", [note_synced, note_verified])
def test_what_is_on_the_disk_for_certain_is_not_compared_again(store: Store, note: Callable[[Store], None]) -> None:
    kept = rich_snapshot(store)
    note(store)
    _restart(store)
    assert _doubtful(store) == 0
    assert AfterBoot(store).snapshot(kept.key) == kept
