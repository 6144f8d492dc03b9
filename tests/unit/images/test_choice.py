"""Layers chosen by package, directory and size: the same tree, and a small change stays small."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.images.choice import chosen_layers
from boxwright.images.layer import Layer, Packing
from boxwright.images.layerkey import layer_key
from boxwright.images.members import Member
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, Entry

MEGABYTE = 1 << 20
PACKING = Packing("gzip")


def tree(files: dict[str, int], *, mtime: int = 5, salt: str = "") -> list[Member]:
    """The members of a tree with files of these sizes, in the order of a walk."""
    paths: set[str] = {""}
    for path in files:
        parts = path.split("/")
        paths.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return [
        member(path, files.get(path), mtime, salt)
        for path in sorted(paths, key=lambda path: path.split("/") if path else [])
    ]


def member(path: str, size: int | None, mtime: int, salt: str) -> Member:
    name = path.rpartition("/")[2]
    if size is None:
        return Member(path, Entry(DIRECTORY, name, 0o755, 0, 0, mtime, 0, "x:y"), None, None)
    content = hashlib.sha256(f"{path}{salt}{size}".encode()).hexdigest()
    return Member(path, Entry(FILE, name, 0o644, 0, 0, 1, size, content), f"/store/{path}", None)


def keys(layers: tuple[Layer, ...]) -> list[str]:
    return [layer_key(layer.members() if layer.members else (), PACKING) for layer in layers]


def by_first(path: str) -> str:
    """The owner in these tests: usr/NAME belongs to the package NAME."""
    parts = path.split("/")
    return parts[1] if parts[0] == "usr" and len(parts) > 2 else ""


def everything(layers: tuple[Layer, ...]) -> list[Member]:
    return [found for layer in layers for found in (layer.members() if layer.members else ())]


names = st.text("abc", min_size=1, max_size=3)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map("/".join).map(lambda path: f"{path}.f"),
    st.integers(0, 9 * MEGABYTE),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(trees, st.integers(2, 30), st.sampled_from(["", "usr/"]))
def test_every_path_is_there_once_below_its_directories(files: dict[str, int], most: int, above: str) -> None:
    files = {above + path: size for path, size in files.items()}
    found = tree(files)
    layers = chosen_layers(found, by_first, most)
    assert len(layers) <= most
    assert sorted(it.path for it in everything(layers) if it.entry.kind == FILE) == sorted(files)
    last = list(layers[-1].members()) if layers[-1].members else []
    assert last == [it for it in found if it.entry.kind == DIRECTORY]
    for layer in layers[:-1]:
        seen: set[str] = set()
        for it in layer.members() if layer.members else ():
            assert it.path == "" or it.path.rpartition("/")[0] in seen, it
            assert it.entry.kind != DIRECTORY or it.entry.mtime == 0
            assert it.path not in seen
            seen.add(it.path)
    assert keys(chosen_layers(tree(files), by_first, most)) == keys(layers)


def big() -> dict[str, int]:
    files = {f"usr/p{package}/{number}": 40_000 for package in range(60) for number in range(50)}
    files |= {f"app/d{directory}/{number}": 20_000 for directory in range(40) for number in range(20)}
    return files | {"app/one/huge.bin": 30 * MEGABYTE, "app/one/small": 5}


def test_one_changed_file_changes_its_layer_and_the_directories() -> None:
    files = big()
    before = keys(chosen_layers(tree(files), by_first, 64))
    for path in ("usr/p7/3", "app/d5/4", "app/one/small"):
        changed = chosen_layers(tree(files | {path: files[path] + 9}, mtime=6), by_first, 64)
        different = [layer for layer, key in zip(changed, keys(changed), strict=True) if key not in before]
        assert len(different) == 2, path
        assert different[1].created_by == "boxwright: directories"
        assert different[0].size() < 6 * MEGABYTE
    added = keys(chosen_layers(tree(files | {"app/d5/new": 7}), by_first, 64))
    assert len(set(added) - set(before)) == 1


def test_a_large_file_is_alone_and_a_huge_directory_is_split() -> None:
    layers = chosen_layers(tree(big()), by_first, 64)
    assert any(layer.created_by == "boxwright: /app/one/huge.bin" for layer in layers)
    one = {f"all/{number}": 100_000 for number in range(500)}
    sizes = [layer.size() for layer in chosen_layers(tree(one), by_first, 64)]
    assert max(sizes) < 4 * MEGABYTE
    assert len(sizes) > 20


def test_a_small_file_shares_its_layer_with_small_ones_alone() -> None:
    files = {f"srv/data/{number}": MEGABYTE for number in range(270)} | big()
    before = keys(chosen_layers(tree(files), by_first, 64))
    for path, most in (("app/d5/4", 2 * MEGABYTE), ("srv/data/9", 20 * MEGABYTE)):
        changed = chosen_layers(tree(files | {path: files[path] + 9}), by_first, 64)
        assert sum(layer.size() for layer, key in zip(changed, keys(changed), strict=True) if key not in before) < most


def test_a_small_tree_has_few_layers() -> None:
    assert len(chosen_layers(tree({"bin/sh": 900_000, "etc/passwd": 50}), by_first, 64)) == 2
    assert len(chosen_layers(tree({}), by_first, 64)) == 1


def test_hard_links_stay_together() -> None:
    found = tree({"a/first": 5 * MEGABYTE, "z/other": 3})
    entry = Entry(HARDLINK, "link", 0o644, 0, 0, 1, 5 * MEGABYTE, "a/first")
    found.append(Member("z/zlink", entry._replace(name="zlink"), None, "a/first"))
    layers = chosen_layers(found, by_first, 20)
    holders = [layer for layer in layers if "a/first" in {it.path for it in (layer.members() if layer.members else ())}]
    assert len(holders) == 1
    assert "z/zlink" in {it.path for it in (holders[0].members() if holders[0].members else ())}


def test_what_counts_in_a_layers_key() -> None:
    one = member("f", 3, 0, "")
    base = layer_key([one], PACKING)
    fields: dict[str, Any] = {
        "mode": 0o600,
        "uid": 1,
        "gid": 1,
        "mtime": 2,
        "size": 4,
        "data": "0" * 64,
        "xattrs": "a=00",
        "kind": "p",
    }
    others = {
        layer_key([one._replace(entry=one.entry._replace(**{name: value}))], PACKING) for name, value in fields.items()
    }
    others |= {layer_key([one._replace(path="g")], PACKING), layer_key([one._replace(link="e")], PACKING)}
    others |= {layer_key([one], Packing("zstd")), layer_key([one], Packing("gzip", 1)), layer_key([one, one], PACKING)}
    assert base not in others
    assert len(others) == 13
    directory = member("d", None, 0, "")
    assert layer_key([directory], PACKING) == layer_key(
        [directory._replace(entry=directory.entry._replace(data="other", size=7))], PACKING
    )
