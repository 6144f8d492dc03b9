"""Unpacking archives that strangers made: what is kept, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.errors import BoxwrightError, FetchError, MachineError, StoreError
from boxwright.sources.unpack import Limits, is_archive, unpack_tar

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
Make = Callable[[tarfile.TarFile], object]  # what it returns is of no interest


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.uid, info.gid = os.geteuid(), os.getegid()
    info.mtime = 1000
    for key, value in more.items():
        setattr(info, key, value)
    return info


def put(archive: tarfile.TarFile, name: str, data: bytes = b"data", **more: object) -> object:
    return archive.addfile(member(name, tarfile.REGTYPE, size=len(data), **more), io.BytesIO(data))


def link(archive: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> object:
    return archive.addfile(member(name, kind, linkname=target))


def directory(archive: tarfile.TarFile, name: str, **more: object) -> object:
    return archive.addfile(member(name, tarfile.DIRTYPE, **more))


def made(make: Make, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        make(archive)
    return buffer.getvalue()


def unpack(data: bytes, root: Path, **more: object) -> Path:
    root.mkdir(exist_ok=True)
    unpack_tar(io.BytesIO(data), str(root), **more)  # type: ignore[arg-type]
    return root


def outside(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.mkdir(exist_ok=True)
    (victim / "file").write_text("safe")
    return victim


ATTACKS: dict[str, tuple[Make, str]] = {
    "parent": (lambda a: put(a, "../victim/new"), "unpack.escape"),
    "deep parent": (lambda a: put(a, "a/b/../../../victim/new"), "unpack.escape"),
    "absolute parent": (lambda a: put(a, "/../victim/new"), "unpack.escape"),
    "ends in parent": (lambda a: directory(a, "a/.."), "unpack.escape"),
    "hard link out": (lambda a: link(a, "x", "../victim/file", tarfile.LNKTYPE), "unpack.escape"),
    "hard link to nothing": (lambda a: link(a, "x", "nothing", tarfile.LNKTYPE), "unpack.damaged"),
    "hard link to a directory": (
        lambda a: (directory(a, "d"), link(a, "x", "d", tarfile.LNKTYPE))[0],
        "unpack.damaged",
    ),
    "root is a file": (lambda a: put(a, "."), "unpack.damaged"),
    "root is a link": (lambda a: link(a, "./", "../victim"), "unpack.damaged"),
    "long component": (lambda a: put(a, "n" * 300), "unpack.damaged"),
    "links in a ring": (
        lambda a: (link(a, "a", "b"), link(a, "b", "a"), put(a, "a/x"))[0],
        "unpack.damaged",
    ),
    "device": (lambda a: a.addfile(member("sda", tarfile.BLKTYPE, devmajor=-0, devminor=0)), ""),
    "overlay whiteout": (lambda a: a.addfile(member("x", tarfile.CHRTYPE)), "unpack.device"),
    "nul in a name": (lambda a: a.addfile(member("x", pax_headers={"path": "a\0b"})), "unpack.damaged"),
    "owner": (lambda a: a.addfile(member("x", pax_headers={"uid": "99999999999"})), "unpack.damaged"),
    "size": (lambda a: a.addfile(member("x", pax_headers={"size": "-1"})), "unpack.damaged"),
    "sparse": (lambda a: a.addfile(member("x", pax_headers={"GNU.sparse.major": "1"})), "unpack.unsupported"),
    "unknown kind": (lambda a: a.addfile(member("x", b"Z")), "unpack.unsupported"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_and_leave_the_outside_alone(tmp_path: Path, name: str) -> None:
    make, code = ATTACKS[name]
    victim = outside(tmp_path)
    if code:
        with pytest.raises(FetchError) as caught:
            unpack(made(make), tmp_path / "root")
        assert caught.value.code == code
    assert sorted(os.listdir(victim)) == ["file"]
    assert (victim / "file").read_text() == "safe"
    assert (victim / "file").stat().st_nlink == 1


CONFINED: dict[str, tuple[Make, str]] = {
    "absolute name": (lambda a: put(a, "/etc/x"), "etc/x"),
    "under an absolute link": (lambda a: (link(a, "l", "/victim"), put(a, "l/new"))[0], "victim/new"),
    "under a parent link": (lambda a: (link(a, "l", "../../victim"), put(a, "l/new"))[0], "victim/new"),
    "under a link of links": (
        lambda a: (link(a, "a", "../.."), link(a, "b", "a/../victim"), put(a, "b/new"))[0],
        "victim/new",
    ),
    "over a link": (lambda a: (link(a, "x", "../victim/file"), put(a, "x"))[0], "x"),
    "directory over a link": (
        lambda a: (link(a, "x", "../victim"), directory(a, "x", mode=0o700), put(a, "x/new"))[0],
        "x/new",
    ),
    "hard link to a link, then written": (
        lambda a: (link(a, "x", "../victim/file"), link(a, "y", "x", tarfile.LNKTYPE), put(a, "y"))[0],
        "y",
    ),
    "hard link through a link": (
        lambda a: (put(a, "victim/file"), link(a, "l", "../victim"), link(a, "y", "l/file", tarfile.LNKTYPE))[0],
        "y",
    ),
    "a file where a directory must be": (lambda a: (put(a, "x"), put(a, "x/new"))[0], "x/new"),
    "a directory is swapped for a link": (
        lambda a: (put(a, "d/e/one"), link(a, "d", "../victim"), put(a, "d/e/new"))[0],
        "victim/e/new",
    ),
}


@pytest.mark.parametrize("name", CONFINED)
def test_links_are_followed_inside_as_chroot_would(tmp_path: Path, name: str) -> None:
    make, where = CONFINED[name]
    victim = outside(tmp_path)
    root = unpack(made(make), tmp_path / "root")
    assert stat.S_ISREG(os.lstat(root / where).st_mode)
    assert os.path.realpath(root / os.path.dirname(where)).startswith(str(root))
    assert sorted(os.listdir(victim)) == ["file"]
    assert (victim / "file").read_text() == "safe"
    assert (victim / "file").stat().st_nlink == 1


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_what_an_archive_says_is_kept(tmp_path: Path, form: int) -> None:
    long = "/".join(["directory" * 5] * (2 if form == tarfile.USTAR_FORMAT else 20))

    def make(archive: tarfile.TarFile) -> None:
        directory(archive, ".", mode=0o755, mtime=500)
        directory(archive, "closed", mode=0o555, mtime=2000)
        put(archive, "closed/file", mode=0o4755, mtime=1234)
        put(archive, long, b"x" * 5000)
        link(archive, "hard", "closed/file", tarfile.LNKTYPE)
        link(archive, "soft", "/closed/file")
        archive.addfile(member("fifo", tarfile.FIFOTYPE, mode=0o600))
        archive.addfile(member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3))

    root = unpack(made(make, form), tmp_path / "root")
    file = os.lstat(root / "closed/file")
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns, file.st_nlink) == (0o4755, 1234 * 10**9, 2)
    assert (root / "hard").samefile(root / "closed/file")
    assert stat.S_IMODE(os.lstat(root / "closed").st_mode) == 0o555
    assert [os.lstat(root / name).st_mtime for name in (".", "closed", "soft", "fifo", "dev")] == [
        500, 2000, 1000, 1000, 1000,
    ]  # fmt: skip
    assert os.readlink(root / "soft") == "/closed/file"
    assert stat.S_ISFIFO(os.lstat(root / "fifo").st_mode)
    assert (root / long).read_bytes() == b"x" * 5000
    assert os.listdir(root / "dev") == []


@AS_ROOT
def test_owners_attributes_and_devices(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")

    def make(archive: tarfile.TarFile) -> None:
        records = {
            "SCHILY.xattr.security.capability": capability.decode("latin-1"),
            "SCHILY.xattr.user.note": "é=\n",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.user.overlay.opaque": "y",
        }
        put(archive, "ping", uid=12, gid=34, mode=0o6755, pax_headers=records, mtime=1.75)
        archive.addfile(member("lnk", tarfile.SYMTYPE, linkname="ping", uid=7, gid=8))
        directory(archive, "home", uid=1000, gid=1001)

    try:
        root = unpack(made(make), tmp_path / "root")
    except BoxwrightError as error:  # a temporary directory on a tmpfs without user attributes
        pytest.skip(error.message)
    ping = os.lstat(root / "ping")
    assert (ping.st_uid, ping.st_gid, stat.S_IMODE(ping.st_mode), ping.st_mtime_ns) == (12, 34, 0o6755, 10**9)
    assert {name: os.getxattr(root / "ping", name) for name in os.listxattr(root / "ping")} == {
        "security.capability": capability,
        "user.note": "é=\n".encode(),
    }
    assert (os.lstat(root / "lnk").st_uid, os.lstat(root / "home").st_gid) == (7, 1001)


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["none", "gzip", "bz2", "xz", "zstd"],
)
def test_compressions_by_magic_and_their_damage(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = made(lambda a: put(a, "file", os.urandom(300_000)))
    packed = pack(data)
    (tmp_path / "x.bin").write_bytes(packed)
    assert is_archive(tmp_path / "x.bin")
    assert (unpack(packed, tmp_path / "root") / "file").stat().st_size == 300_000
    for cut in (3, 100, len(packed) // 2, len(packed) - 20000 if pack is bytes else len(packed) - 5):
        with pytest.raises(FetchError) as caught:
            unpack(packed[:cut], tmp_path / "cut")
        assert caught.value.code == "unpack.damaged"


def test_two_gzip_members_and_padding_are_one_stream(tmp_path: Path) -> None:
    data = made(lambda a: put(a, "file", b"x" * 5000))
    packed = gzip.compress(data[:3000]) + gzip.compress(data[3000:]) + b"\0" * 100
    assert (unpack(packed, tmp_path / "root") / "file").stat().st_size == 5000


def test_what_is_no_archive(tmp_path: Path) -> None:
    for content in (b"", b"text" * 500, gzip.compress(b"text"), b"\x1f\x8bnot gzip", b"\0" * 1024):
        (tmp_path / "file").write_bytes(content)
        assert not is_archive(tmp_path / "file")
    assert not is_archive(tmp_path)


def test_limits(tmp_path: Path) -> None:
    data = made(lambda a: (put(a, "a", b"x" * 600), put(a, "b", b"x" * 600))[0])
    for limits in (Limits(entries=1), Limits(size=1000)):
        with pytest.raises(FetchError) as caught:
            unpack(data, tmp_path / "root", limits=limits)
        assert caught.value.code == "unpack.too-large"
    absurd = made(lambda a: a.addfile(member("x", size=1 << 50, pax_headers={})), tarfile.GNU_FORMAT)
    with pytest.raises(FetchError) as caught:
        unpack(absurd, tmp_path / "root")
    assert caught.value.code == "unpack.too-large"


def test_later_of_two_names_counts_and_hard_links_keep_the_earlier(tmp_path: Path) -> None:
    def make(archive: tarfile.TarFile) -> None:
        put(archive, "a", b"one")
        link(archive, "b", "a", tarfile.LNKTYPE)
        put(archive, "a", b"two")
        put(archive, "d/file")
        put(archive, "d", b"now a file")

    root = unpack(made(make), tmp_path / "root")
    assert [(root / name).read_bytes() for name in "abd"] == [b"two", b"one", b"now a file"]


def layers(root: Path, *makes: Make) -> list[str]:
    for make in makes:
        unpack(made(make), root, overlay_whiteouts=True)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_whiteouts(tmp_path: Path) -> None:
    def first(archive: tarfile.TarFile) -> None:
        for name in ("keep", "gone", "dir/old", "dir/sub/old", "whole/x", "late/old"):
            put(archive, name)

    def second(archive: tarfile.TarFile) -> None:
        put(archive, ".wh.gone", b"")
        put(archive, ".wh.whole", b"")
        put(archive, "dir/sub/new")
        put(archive, "dir/.wh..wh..opq", b"")
        put(archive, "dir/new")
        put(archive, "nowhere/.wh.x", b"")
        put(archive, "late/new")
        put(archive, ".wh.late", b"")
        put(archive, ".wh..wh.plnk", b"ignored")

    assert layers(tmp_path / "root", first, second) == [
        "dir", "dir/new", "dir/sub", "dir/sub/new", "keep", "late", "late/new",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..."])
def test_whiteouts_that_point_out(tmp_path: Path, name: str) -> None:
    victim = outside(tmp_path)
    with pytest.raises(FetchError) as caught:
        layers(tmp_path / "root", lambda a: directory(a, "d"), lambda a: put(a, name, b""))
    assert caught.value.code == "unpack.escape"
    assert os.listdir(victim) == ["file"]


def test_whiteouts_do_not_follow_links(tmp_path: Path) -> None:
    victim = outside(tmp_path)
    layers(
        tmp_path / "root",
        lambda a: link(a, "l", str(victim)),
        lambda a: (put(a, "l/.wh.file", b""), put(a, "l/.wh..wh..opq", b""))[0],
    )
    assert os.listdir(victim) == ["file"]


def test_a_layers_directory_replaces_an_earlier_layers_link(tmp_path: Path) -> None:
    found = layers(
        tmp_path / "root",
        lambda a: (link(a, "bin", "usr/bin"), directory(a, "usr/bin"))[0],
        lambda a: put(a, "bin/x"),
    )
    assert found == ["bin", "bin/x", "usr", "usr/bin"]


def test_a_layer_leaves_times_of_directories_that_it_only_passes(tmp_path: Path) -> None:
    layers(tmp_path / "root", lambda a: directory(a, "d", mtime=77), lambda a: put(a, "d/x", mtime=99))
    assert os.stat(tmp_path / "root/d").st_mtime == 77


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["file", "dir", "sym", "hard"]),
            st.lists(st.sampled_from(["a", "b", "c", ".", ".."]), min_size=1, max_size=4),
            st.lists(st.sampled_from(["a", "b", "..", "victim", ""]), min_size=1, max_size=4),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_nothing_gets_out(
    tmp_path_factory: pytest.TempPathFactory,
    plan: list[tuple[str, list[str], list[str]]],
    layer: bool,  # noqa: FBT001 - Hypothesis gives it
) -> None:
    base = tmp_path_factory.mktemp("any")
    victim = outside(base)

    def make(archive: tarfile.TarFile) -> None:
        for kind, name, target in plan:
            path, other = "/".join(name), "/".join(target) or "."
            if kind == "file":
                put(archive, path)
            elif kind == "dir":
                directory(archive, path)
            else:
                link(archive, path, other, tarfile.SYMTYPE if kind == "sym" else tarfile.LNKTYPE)

    with suppress(FetchError):
        unpack(made(make), base / "root", overlay_whiteouts=layer)
    assert sorted(os.listdir(base)) == ["root", "victim"]
    assert os.listdir(victim) == ["file"]
    assert (victim / "file").read_text() == "safe"
    assert (victim / "file").stat().st_nlink == 1


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_are_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    base = tmp_path_factory.mktemp("flip")
    good = bytearray(made(lambda a: (directory(a, "d"), put(a, "d/x"), link(a, "l", "d"), put(a, "é" * 90))[1]))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FetchError, MachineError, StoreError):
        unpack(bytes(good), base / "root")
    assert os.listdir(base) == ["root"]
