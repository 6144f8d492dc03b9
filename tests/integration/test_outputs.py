"""Outputs judged by others: GNU tar, skopeo, umoci, unsquashfs, docker, podman, LXD."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError, MachineError, StoreError, UsageError
from boxwright.images import load, writers
from boxwright.model.image import Image, ImageConfig, Port
from tests.unit.images.directory_reader import DirectoryReader, ListReader, image_of

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
CONFIG = ImageConfig(
    "amd64",
    env=(("GREETING", "hello"),),
    entrypoint=("/bin/busybox",),
    cmd=("cat", "/etc/os-release"),
    workdir="/srv",
    labels=(("kind", "test"),),
    published=(Port(80, "tcp", 8080),),
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and files of other owners")


def needed(program: str) -> str:
    """A program's path; without it the test is skipped, and fails where CI is set."""
    path = shutil.which(program)
    if path is None:
        lacking(f"{program} is missing")
    return str(path)


def lacking(why: str) -> None:
    """Skip, or fail where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def run(*command: str | Path) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one of everything."""
    top = tmp_path_factory.mktemp("tree") / "root"
    for name in ("bin", "etc", "srv", "tmp", "a", "a-b", "d" * 120 + "/" + "e" * 150, "dev", "ünï"):
        (top / name).mkdir(parents=True)
    (top / "etc/os-release").write_text('NAME="Test Linux"\nVERSION_CODENAME=one\nPRETTY_NAME="Test Linux 1"\n')
    (top / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (top / "etc/empty").touch()
    (top / "srv/big").write_bytes(os.urandom(100_000) + bytes(5_000_000))
    (top / "srv/suid").write_bytes(b"#!/bin/sh\n")
    (top / "srv/capable").write_bytes(b"x" * 513)
    (top / "ünï/odd name\n").write_bytes(b"odd")
    (top / ("d" * 120 + "/" + "e" * 150) / ("f" * 200)).write_bytes(b"long")
    (top / "a-b/x").write_bytes(b"linked")
    os.link(top / "a-b/x", top / "a/x")
    os.link(top / "a-b/x", top / "z")
    (top / "bin/link").symlink_to("../srv/big")
    (top / "bin/gone").symlink_to("/" + "n" * 130)
    os.mkfifo(top / "tmp/fifo", 0o640)
    if os.geteuid() == 0:
        os.mknod(top / "dev/null", 0o666 | 0o020000, os.makedev(1, 3))
        os.mknod(top / "dev/loop", 0o660 | 0o060000, os.makedev(7, 300))
        os.chown(top / "srv/suid", 1000, 33)
        os.lchown(top / "bin/link", 12, 34)
        os.chown(top / "srv/big", 3_000_000, 3_000_001)
        os.setxattr(top / "srv/capable", "security.capability", CAPABILITY)
    os.chmod(top / "srv/suid", 0o4755)
    os.chmod(top / "tmp", 0o1777)
    os.chmod(top, 0o750)
    for position, path in enumerate(sorted([top, *top.rglob("*")], reverse=True)):
        os.utime(path, (1_600_000_000 + position, 1_600_000_000 + position), follow_symlinks=False)
    return top


@pytest.fixture(scope="session")
def reader(tree: Path) -> DirectoryReader:
    return DirectoryReader(tree)


@pytest.fixture(scope="session")
def image() -> Image:
    return image_of(CONFIG)


def shape(top: Path, *, root: bool = True) -> dict[str, object]:
    """All that can be seen of a tree, but names' inode numbers."""
    files = DirectoryReader(top).files
    return {
        file.path: (*file.entry[:8], "" if file.entry.kind == "d" else file.entry.xattrs)
        for file in files
        if root or file.path
    }


def same_tree(made: Path, tree: Path) -> None:
    assert shape(made) == shape(tree)


@needs_root
@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".xz"])
def test_gnu_tar_unpacks_the_same_tree(
    tmp_path: Path, tree: Path, reader: DirectoryReader, image: Image, ending: str
) -> None:
    archive = tmp_path / f"x.tar{ending}"
    written = writers.write(image, reader, "tar", archive)
    assert written.digest == "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    assert written.size == archive.stat().st_size
    (tmp_path / "out").mkdir()
    run("tar", "-C", tmp_path / "out", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", archive)
    same_tree(tmp_path / "out", tree)
    assert os.getxattr(tmp_path / "out/srv/capable", "security.capability") == CAPABILITY


@needs_root
def test_rootfs(tmp_path: Path, tree: Path, reader: DirectoryReader, image: Image) -> None:
    target = tmp_path / "root"
    writers.write(image, reader, "rootfs", target)
    same_tree(target, tree)
    (target / "extra").touch()
    writers.write(image, reader, "rootfs", target)
    same_tree(target, tree)
    target.rename(tmp_path / "aside")
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(BoxwrightError) as raised:
        writers.write(image, reader, "rootfs", target)
    assert raised.value.code == "output.not-empty"


@needs_root
def test_rootfs_with_a_mount_inside_stays(tmp_path: Path, reader: DirectoryReader, image: Image) -> None:
    target = tmp_path / "root"
    writers.write(image, reader, "rootfs", target)
    run("mount", "-t", "tmpfs", "none", target / "srv")
    try:
        with pytest.raises(BoxwrightError) as raised:
            writers.write(image, reader, "rootfs", target)
        assert raised.value.code == "output.busy"
    finally:
        run("umount", target / "srv")


@needs_root
def test_squashfs(tmp_path: Path, tree: Path, reader: DirectoryReader, image: Image) -> None:
    needed("mksquashfs")
    processors = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(processors)})
        one = writers.write(image, reader, "squashfs", tmp_path / "one.sq")
    finally:
        os.sched_setaffinity(0, processors)
    time.sleep(1.1)
    all_of_them = writers.write(image, reader, "squashfs", tmp_path / "all.sq")
    assert one.digest == all_of_them.digest
    run(needed("unsquashfs"), "-q", "-n", "-d", tmp_path / "out", tmp_path / "all.sq")
    same_tree(tmp_path / "out", tree)


@needs_root
@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_skopeo_and_umoci(
    tmp_path: Path, tree: Path, reader: DirectoryReader, image: Image, kind: str, compression: str
) -> None:
    target = tmp_path / "image"
    written = writers.write(image, reader, kind, target, name="v1", compression=compression)
    shown = json.loads(run(needed("skopeo"), "inspect", f"{kind}:{target}:v1"))
    assert shown["Digest"] == written.digest
    assert shown["Env"] == ["GREETING=hello"]
    assert shown["Labels"] == {"kind": "test", "dev.boxwright.ports": "8080:80/tcp"}
    run("skopeo", "copy", "--dest-compress-format=gzip", f"{kind}:{target}:v1", f"oci:{tmp_path}/copy:v1")
    run("skopeo", "copy", f"{kind}:{target}:v1", f"dir:{tmp_path}/dir")
    run("skopeo", "copy", "--dest-decompress", f"{kind}:{target}:v1", f"dir:{tmp_path}/plain")
    layer = json.loads((tmp_path / "plain/manifest.json").read_bytes())["layers"][0]["digest"].removeprefix("sha256:")
    raw = writers.write(image, reader, "tar", tmp_path / "x.tar")
    assert layer == raw.digest.removeprefix("sha256:")
    if compression != "zstd":
        run(needed("umoci"), "unpack", "--image", f"{tmp_path}/copy:v1", tmp_path / "bundle")
        same_tree(tmp_path / "bundle/rootfs", tree)


def test_a_layout_takes_more_images(tmp_path: Path, reader: DirectoryReader, image: Image) -> None:
    target = tmp_path / "layout"
    skopeo = needed("skopeo")
    first = writers.write(image, reader, "oci", target, name="one")
    second = writers.write(image_of(ImageConfig("amd64")), reader, "oci", target, name="two")
    replaced = writers.write(image_of(ImageConfig("amd64", user="7")), reader, "oci", target, name="two")
    index = json.loads((target / "index.json").read_bytes())
    assert [item["digest"] for item in index["manifests"]] == [first.digest, replaced.digest]
    assert second.digest != replaced.digest
    for name, artifact in (("one", first), ("two", replaced)):
        assert json.loads(run(skopeo, "inspect", f"oci:{target}:{name}"))["Digest"] == artifact.digest
    assert all(
        hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name for blob in (target / "blobs/sha256").iterdir()
    )


def broken(reader: DirectoryReader) -> ListReader:
    """A reader whose last file is not what it was."""
    files = list(reader.files)
    at = max(position for position, file in enumerate(files) if file.entry.kind == "f" and file.entry.size)
    files[at] = files[at].__class__(files[at].path, files[at].entry._replace(size=9_999_999), files[at].physical)
    return ListReader(files)


@needs_root
@pytest.mark.parametrize("kind", writers.KINDS)
def test_a_failure_leaves_nothing(tmp_path: Path, reader: DirectoryReader, image: Image, kind: str) -> None:
    with pytest.raises(StoreError) as raised:
        writers.write(image, broken(reader), kind, tmp_path / "out", name="x")
    assert raised.value.code == "store.tree-changed"
    assert not list(tmp_path.iterdir())


@needs_root
@pytest.mark.parametrize("kind", writers.KINDS)
def test_a_failure_leaves_what_was_there(tmp_path: Path, reader: DirectoryReader, image: Image, kind: str) -> None:
    target = tmp_path / "out"
    writers.write(image, reader, kind, target, name="x")
    before = contents(tmp_path)
    with pytest.raises(StoreError):
        writers.write(image, broken(reader), kind, target, name="x")
    assert contents(tmp_path) == before


@needs_root
@pytest.mark.parametrize("kind", [kind for kind in writers.KINDS if kind != "rootfs"])
def test_the_same_bytes_again(tmp_path: Path, reader: DirectoryReader, image: Image, kind: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = writers.write(image, reader, kind, tmp_path / "1/out", name="x")
    second = writers.write(image, reader, kind, tmp_path / "2/out", name="x")
    assert (first.digest, first.size) == (second.digest, second.size)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def contents(top: Path) -> dict[str, str]:
    """The digests of all files."""
    found = {}
    for path in sorted(top.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(top))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@needs_root
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "tar", "squashfs", "rootfs", "lxd", "oci", "lxc"])
def test_a_full_disk(tmp_path: Path, reader: DirectoryReader, image: Image, kind: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", disk)
    try:
        with pytest.raises(BoxwrightError) as raised:
            writers.write(image, reader, kind, disk / "out", name="x")
        assert raised.value.code == "output.no-space"
        assert raised.value.hint
        assert not list(disk.iterdir())
    finally:
        run("umount", disk)


def test_refusals(tmp_path: Path, reader: DirectoryReader, image: Image) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    cases: list[tuple[str, str, str | None, str]] = [
        ("oci-archiv", "x", None, "output.unknown-kind"),
        ("oci", "full", None, "output.not-empty"),
        ("rootfs", "full", None, "output.not-empty"),
        ("lxc", "full", None, "output.not-empty"),
        ("tar", "full", None, "output.is-directory"),
        ("tar", "none/x", None, "output.no-directory"),
        ("oci", "x", "xz", "output.unknown-compression"),
        ("tar", "x", "rar", "output.unknown-compression"),
        ("lxc", "x", "zstd", "output.fixed-compression"),
    ]
    for kind, target, compression, code in cases:
        with pytest.raises(BoxwrightError) as raised:
            writers.write(image, reader, kind, tmp_path / target, compression=compression)
        assert raised.value.code == code, (kind, target)
    with pytest.raises(UsageError) as usage:
        writers.check_kind("oci-archiv")
    assert "'oci-archive'" in usage.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert contents(tmp_path) == {"full/mine": hashlib.sha256(b"").hexdigest()}


@needs_root
def test_interrupted(tmp_path: Path, reader: DirectoryReader, image: Image) -> None:
    files = reader.files

    class Interrupting:
        def walk(self, snapshot: object) -> object:
            yield from files[:8]
            raise KeyboardInterrupt

    for kind in writers.KINDS:
        with pytest.raises(KeyboardInterrupt):
            writers.write(image, Interrupting(), kind, tmp_path / "out", name="x")  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir()), kind


@needs_root
def test_lxc(tmp_path: Path, tree: Path, reader: DirectoryReader, image: Image) -> None:
    writers.write(image, reader, "lxc", tmp_path / "lxc", name="hello")
    (tmp_path / "root").mkdir()
    run(
        "tar", "-C", tmp_path / "root", "--xattrs-include=*", "--numeric-owner", "-xpJf", tmp_path / "lxc/rootfs.tar.xz"
    )
    same_tree(tmp_path / "root", tree)
    with tarfile.open(tmp_path / "lxc/meta.tar.xz") as meta:
        config = meta.extractfile("config")
        assert config is not None
        text = config.read().decode()
    assert "lxc.arch = x86_64\n" in text
    assert "lxc.init.cmd = /bin/busybox cat /etc/os-release\n" in text
    assert "lxc.environment = GREETING=hello\n" in text


def test_lxd(tmp_path: Path, reader: DirectoryReader, image: Image) -> None:
    writers.write(image, reader, "lxd", tmp_path / "x.tar.gz", name="hello")
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert archive.getnames()[:3] == ["metadata.yaml", "templates", "rootfs"]
        metadata = archive.extractfile("metadata.yaml")
        assert metadata is not None
        text = metadata.read().decode()
        link = archive.getmember("rootfs/a-b/x")
        assert (link.islnk(), link.linkname) == (True, "rootfs/a/x")
    assert text.startswith('architecture: "x86_64"\ncreation_date: 1700000000\nproperties:\n')
    assert '  "description": "hello (Test Linux 1)"\n' in text
    assert '  "release": "one"\n' in text


def answers(*command: str) -> bool:
    """Whether an engine is there."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_load(engine: str, reader: DirectoryReader, image: Image) -> None:
    needed(engine)
    if not answers(engine, "info"):
        lacking(f"{engine} does not answer")
    name = f"localhost/boxwright-test-{os.getpid()}:v1"
    assert load.load(image, reader, engine, name=name) == name
    try:
        shown = json.loads(run(engine, "image", "inspect", name))[0]
        assert shown["Config"]["Env"] == ["GREETING=hello"]
        assert shown["Config"]["Entrypoint"] == ["/bin/busybox"]
        container = run(engine, "create", name).strip()
        saved = subprocess.run([engine, "cp", f"{container}:/etc/os-release", "-"], capture_output=True, check=True)
        run(engine, "rm", container)
        assert b'NAME="Test Linux"' in saved.stdout
    finally:
        run(engine, "rmi", name)


def test_load_lxd(reader: DirectoryReader, image: Image) -> None:
    needed("lxc")
    if not answers("timeout", "10", "lxc", "image", "list"):
        lacking("LXD does not answer")
    name = f"boxwright-test/{os.getpid()}:v1"
    alias = load.load(image, reader, "lxd", name=name)
    try:
        assert alias == load.lxd_alias(name)
        assert load.load(image, reader, "lxd", name=name) == alias
        assert "x86_64" in run("lxc", "image", "info", alias)
    finally:
        run("lxc", "image", "delete", alias)


def test_engine_missing(monkeypatch: pytest.MonkeyPatch, reader: DirectoryReader, image: Image) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError) as raised:
        load.load(image, reader, "podman", name="x")
    assert (raised.value.code, raised.value.hint) == ("load.engine-missing", "apt-get install podman")
    with pytest.raises(UsageError, match="no engine"):
        load.check_engine("dockr")


@pytest.mark.parametrize(
    "said", ["Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", "bad"]
)
def test_engine_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: DirectoryReader, image: Image, said: str
) -> None:
    """It stops reading at once, so the pipe breaks; what it said is what is told."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BoxwrightError, match=said[:3]) as raised:
        load.load(image, reader, "docker", name="x")
    assert raised.value.code == "load.failed"
    assert isinstance(raised.value, MachineError) == (said != "bad")
