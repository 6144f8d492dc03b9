"""The tar of a tree, judged by Python's tarfile, which is another's work."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.errors import StoreError
from boxwright.images.layer import Packing, write_layer
from boxwright.images.tarstream import tree_size
from boxwright.model.tree import Entry, encode_xattrs
from boxwright.ports import TreeFile
from tests.unit.images.directory_reader import SNAPSHOT, ListReader, image_of

ROOT = TreeFile("", Entry("d", "", 0o755, 0, 0, 1, 0, ""), None)

names = st.one_of(
    st.text("abc-_. ", min_size=1, max_size=4),
    st.text(min_size=1, max_size=40),
    st.text("x", min_size=90, max_size=160),
    st.binary(min_size=1, max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
).filter(lambda name: "/" not in name and "\0" not in name and name not in (".", "..") and _is_name(name))
times = st.one_of(st.integers(0, 2**33), st.integers(-(2**31), 2**40))
owners = st.one_of(st.integers(0, 70000), st.integers(0, 2**32 - 2))
values = st.binary(max_size=20)
xattrs = st.dictionaries(st.sampled_from(["user.a", "security.capability", "user.ü%"]), values, max_size=2)


def _is_name(name: str) -> bool:
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return len(raw) <= 255 and raw.decode("utf-8", "surrogateescape") == name


@st.composite
def trees(draw: st.DrawFn, scratch: str) -> list[TreeFile]:
    """A tree as a reader walks it."""
    files: list[TreeFile] = [TreeFile("", draw(entries("d", "")), None)]
    carriers: list[str] = []

    def fill(prefix: str, depth: int) -> None:
        chosen = draw(st.sets(names, max_size=4))
        for name in sorted(chosen, key=lambda text: text.encode("utf-8", "surrogateescape")):
            path = prefix + name
            kind = draw(st.sampled_from("dfflcbph" if carriers else "dfflcbp"))
            entry, place = draw(entries(kind, name)), None
            if kind == "f":
                content = draw(st.one_of(st.binary(max_size=20), st.integers(500, 1500).map(bytes)))
                place = f"{scratch}/{len(files)}"
                Path(place).write_bytes(content)
                entry = entry._replace(size=len(content))
                carriers.append(path)
            elif kind == "h":
                entry = entry._replace(data=draw(st.sampled_from(carriers)), xattrs="")
            files.append(TreeFile(path, entry, place))
            if kind == "d" and depth:
                fill(f"{path}/", depth - 1)

    fill("", 3)
    return files


@st.composite
def entries(draw: st.DrawFn, kind: str, name: str) -> Entry:
    """An entry without content."""
    data = {"c": "1:3", "b": "259:1048575", "l": ""}.get(kind, "")
    if kind == "l":
        data = "/".join(draw(st.lists(names, min_size=1, max_size=4)))
    pairs = sorted(draw(xattrs).items())
    mode, uid, gid, time = draw(st.integers(0, 0o7777)), draw(owners), draw(owners), draw(times)
    return Entry(kind, name, mode, uid, gid, time, 0, data, encode_xattrs(pairs))


def tar_of(files: list[TreeFile]) -> bytes:
    """The archive of a tree."""
    sink = io.BytesIO()
    write_layer(sink, image_of(), ListReader(files), Packing("none"))
    return sink.getvalue()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_tarfile_reads_what_the_manifest_says(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = data.draw(trees(scratch))
        archive = tar_of(files)
        assert len(archive) == tree_size(ListReader(files), SNAPSHOT)
        assert archive == tar_of(files)
        read = tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        found = list(read)
        assert len(found) == len(files)
        for member, file in zip(found, files, strict=True):
            check(read, member, file)


def check(read: tarfile.TarFile, member: tarfile.TarInfo, file: TreeFile) -> None:
    """That a member is what the entry says."""
    entry = file.entry
    assert member.name == (file.path or ".")
    assert (member.mode, member.uid, member.gid, int(member.mtime)) == (
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
    )
    assert (member.uname, member.gname) == ("", "")
    kinds = {"d": "isdir", "f": "isreg", "l": "issym", "h": "islnk", "c": "ischr", "b": "isblk", "p": "isfifo"}
    assert getattr(member, kinds[entry.kind])()
    if entry.kind in "lh":
        assert member.linkname == entry.data
    if entry.kind in "cb":
        assert f"{member.devmajor}:{member.devminor}" == entry.data
    if entry.kind == "f":
        content = read.extractfile(member)
        assert content is not None
        assert content.read() == Path(file.physical or "").read_bytes()
    given_pairs = entry.xattrs.count("=")
    assert sum(name.startswith("SCHILY.xattr.") for name in member.pax_headers) == given_pairs


def test_binary_attribute_survives(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    (tmp_path / "f").write_bytes(b"x")
    entry = Entry("f", "f", 0o755, 0, 0, 0, 1, "", encode_xattrs([("security.capability", capability)]))
    archive = tar_of([ROOT, TreeFile("f", entry, str(tmp_path / "f"))])
    assert b" SCHILY.xattr.security.capability=" + capability + b"\n" in archive


def test_link_before_its_content(tmp_path: Path) -> None:
    """The content is at "a-b/x" by path, yet the walk comes to "a/x" first."""
    (tmp_path / "x").write_bytes(b"hello")
    folder = Entry("d", "", 0o755, 0, 0, 1, 0, "")
    carrier = Entry("f", "x", 0o640, 5, 6, 7, 5, "", "user.a=00")
    link = carrier._replace(kind="h", data="a-b/x")
    files = [
        ROOT,
        TreeFile("a", folder._replace(name="a"), None),
        TreeFile("a/w", link._replace(name="w"), None),
        TreeFile("a/x", link, None),
        TreeFile("a-b", folder._replace(name="a-b"), None),
        TreeFile("a-b/x", carrier, str(tmp_path / "x")),
        TreeFile("z", link._replace(name="z"), None),
    ]
    read = tarfile.open(fileobj=io.BytesIO(tar_of(files)))  # noqa: SIM115
    shown = {member.name: (member.isreg() and not member.islnk(), member.linkname) for member in read}
    assert shown["a/w"] == (True, "")
    assert [shown[name] for name in ("a/x", "a-b/x", "z")] == [(False, "a/w")] * 3
    content = read.extractfile("z")
    assert content is not None
    assert content.read() == b"hello"
    assert (read.getmember("a/w").mode, read.getmember("a/w").uid) == (0o640, 5)


def test_link_to_nothing() -> None:
    entry = Entry("h", "a", 0o644, 0, 0, 0, 1, "b")
    with pytest.raises(StoreError) as raised:
        tar_of([ROOT, TreeFile("a", entry, None)])
    assert raised.value.code == "store.tree-damaged"


@pytest.mark.parametrize("what", ["longer", "shorter", "gone", "link", "fifo", "directory", "nowhere"])
def test_a_changed_store_is_an_error(tmp_path: Path, what: str) -> None:
    import os

    place = tmp_path / "f"
    (tmp_path / "secret").write_bytes(b"12345")
    match what:
        case "longer":
            place.write_bytes(b"123456")
        case "shorter":
            place.write_bytes(b"1234")
        case "link":
            place.symlink_to(tmp_path / "secret")
        case "fifo":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
    physical = None if what == "nowhere" else str(place)
    with pytest.raises(StoreError) as raised:
        tar_of([ROOT, TreeFile("f", Entry("f", "f", 0o644, 0, 0, 0, 5, ""), physical)])
    assert raised.value.code == "store.tree-changed"


def test_more_than_the_buffers_hold(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "f").write_bytes(content)
    entry = Entry("f", "f", 0o644, 0, 0, 0, len(content), "")
    archive = tar_of([ROOT, TreeFile("f", entry, str(tmp_path / "f"))])
    read = tarfile.open(fileobj=io.BytesIO(archive)).extractfile("f")  # noqa: SIM115
    assert read is not None
    assert read.read() == content
