"""Layers that are kept unpacked: put in place again they give what unpacking gives; what was damaged is not used."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.app.keptlayers import KeptLayers, prune_layers
from boxwright.app.opening import open_store
from boxwright.errors import BoxwrightError
from boxwright.model.digest import digest_of
from boxwright.sources.unpack import replay_layer, unpack_tar
from boxwright.store.measure import beside_layers, usage_of
from boxwright.store.store import Store

NAMES = ("a", "b", "c")
KINDS = {
    "file": tarfile.REGTYPE,
    "empty": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "whiteout": tarfile.REGTYPE,
    "opaque": tarfile.REGTYPE,
}


class Item(NamedTuple):
    """A member of a layer."""

    kind: str
    path: tuple[str, ...]
    link: tuple[str, ...]
    mode: int
    time: int


ITEMS = st.builds(
    Item,
    st.sampled_from(sorted(KINDS)),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    st.sampled_from([0o644, 0o755, 0o4711]),
    st.integers(1, 5),
)
LAYERS = st.lists(ITEMS, max_size=10)


def layer_of(items: Sequence[Item]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, item in enumerate(items):
            name = item.path[-1]
            name = {"whiteout": f".wh.{name}", "opaque": ".wh..wh..opq"}.get(item.kind, name)
            member = tarfile.TarInfo("/".join((*item.path[:-1], name)))
            member.type, member.mode, member.mtime = KINDS[item.kind], item.mode, item.time
            member.uid, member.gid = os.geteuid(), os.getegid()
            member.linkname = "/".join(item.link) if item.kind in ("symlink", "hardlink") else ""
            data = f"{number} {item}".encode() if item.kind == "file" else b""
            if data:
                member.pax_headers = {"SCHILY.xattr.user.note": item.path[0]}
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def tree(root: Path) -> dict[str, object]:
    """All that can be seen of a tree, with the names of each file."""
    found: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content: object = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes(), inodes.setdefault(status.st_ino, str(path.relative_to(root)))
        attributes = [] if path.is_symlink() else os.listxattr(path)
        found[str(path.relative_to(root))] = status.st_mode, int(status.st_mtime), content, attributes
    return found


def done(root: Path, *steps: Callable[[str], None]) -> object:
    """The tree after these steps, or the code with which one of them ended."""
    root.mkdir()
    os.utime(root, (0, 0))
    try:
        for step in steps:
            step(str(root))
    except BoxwrightError as error:
        return error.code
    return tree(root)


def unpacking(data: bytes) -> Callable[[str], None]:
    return lambda root: unpack_tar(io.BytesIO(data), root, overlay_whiteouts=True)


def keep(kept: KeptLayers, data: bytes, root: str) -> None:
    with kept.keeping(digest_of(data)) as heard:
        unpack_tar(io.BytesIO(data), root, overlay_whiteouts=True, keep=heard)


@settings(max_examples=80, deadline=None)
@given(LAYERS, LAYERS, LAYERS)
def test_a_kept_layer_gives_what_unpacking_gives(
    tmp_path_factory: pytest.TempPathFactory, first: list[Item], second: list[Item], layer: list[Item]
) -> None:
    """Wherever it was unpacked before, and on top of whatever it is put."""
    place = tmp_path_factory.mktemp("layers")
    below, other, data = layer_of(first), layer_of(second), layer_of(layer)
    with open_store({"BOXWRIGHT_HOME": str(place / "store")}) as store:
        done(place / "before", unpacking(below), partial(keep, KeptLayers(store), data))
        members = KeptLayers(store).members(digest_of(data))
        if members is None:  # it can't be unpacked there
            return
        again = done(place / "again", unpacking(other), lambda root: replay_layer(members, root))
        assert again == done(place / "anew", unpacking(other), unpacking(data))
        twice = (lambda root: replay_layer(members, root), lambda root: replay_layer(members, root, copy=True))
        assert done(place / "twice", unpacking(other), *twice) == done(
            place / "anew-twice", unpacking(other), unpacking(data), unpacking(data)
        )


DATA = layer_of([Item("file", ("a", "b"), (), 0o644, 3), Item("directory", ("c",), (), 0o755, 4)])


def removed(place: Path) -> None:
    (place / "0").unlink()


def altered(place: Path) -> None:
    """Same size, time and mode."""
    data = bytearray((place / "0").read_bytes())
    data[3] ^= 1
    (place / "0").unlink()
    (place / "0").write_bytes(data)
    (place / "0").chmod(0o644)
    os.utime(place / "0", (3, 3))


def given_away(place: Path) -> None:
    (place / "0").chmod(0o4755)


def no_list(place: Path) -> None:
    (place / "members").unlink()


def no_sense(place: Path) -> None:
    (place / "members").write_bytes(b"\xc1")


@pytest.mark.parametrize("harm", [removed, altered, given_away, no_list, no_sense], ids=lambda it: it.__name__)
def test_what_is_damaged_is_not_used(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    (tmp_path / "root").mkdir()
    keep(KeptLayers(store), DATA, str(tmp_path / "root"))
    digest = digest_of(DATA)
    (place,) = Path(store.home.cache, "layers").iterdir()
    assert KeptLayers(store).members(digest) is not None
    harm(place)
    assert KeptLayers(store).members(digest) is None
    assert not place.exists()


def test_what_is_not_unpacked_to_its_end_is_not_kept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(BoxwrightError):
        keep(KeptLayers(store), DATA[:700], str(tmp_path / "root"))
    assert list(Path(store.home.cache, "layers").iterdir()) == []


def test_kept_layers_take_no_room_and_are_collected(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    large = layer_of([Item("file", ("a" * 200, "x" * 200 + str(number)), (), 0o644, 1) for number in range(200)])
    before = beside_layers(store.home)
    keep(KeptLayers(store), large, str(root))
    assert usage_of(str(root)).shared  # the same files
    assert beside_layers(store.home) - before < 400 << 10  # of 800 KiB of files
    prune_layers(store, everything=False)
    (place,) = Path(store.home.cache, "layers").iterdir()
    os.utime(place, (0, 0))
    prune_layers(store, everything=False)
    assert not place.exists()
    keep(KeptLayers(store), large, str(root))
    prune_layers(store, everything=True)
    assert list(Path(store.home.cache, "layers").iterdir()) == []
