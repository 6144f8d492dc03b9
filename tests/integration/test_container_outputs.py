"""Containers of packages: in other engines, and in each format as an independent program reads it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Program
from tests.integration.test_containers import CONTAINER, HELLO, IMAGE

SAID = "hello from a package\nname=hello-production\n"
BASED = "- base: debian:bookworm\n" + CONTAINER.replace("name: hello-production", "name: hello-based")
EACH = "- package: one-per-container\n" + CONTAINER
INSTANCE = f"boxwright-composed-{os.getpid()}"


def said(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Callable[[str], Path]:
    """Make a directory with the definition that is given, and the packages of hello."""

    def make(container: str) -> Path:
        for relative, text in {**HELLO, "container.yaml": container}.items():
            path = tmp_path / "hello-prod" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "out").mkdir(exist_ok=True)
        return tmp_path / "hello-prod"

    return make


@pytest.fixture(params=["scratch", pytest.param("base", marks=pytest.mark.long), "each"])
def composed(request: pytest.FixtureRequest, boxwright: Program, directory: Callable[[str], Path]) -> str:
    """An image of packages: alone, on a base, and as the union of one image for each."""
    name = f"composed-{request.param}"
    text = {"scratch": CONTAINER, "base": BASED, "each": EACH}[request.param]
    place = directory(text)
    boxwright("build", place, "-q", "-t", name, cwd=place.parent / "out", timeout=600)
    return name


@pytest.mark.engine("podman")
@pytest.mark.engine("docker")
@pytest.mark.engine("lxd")
def test_everywhere(boxwright: Program, composed: str) -> None:
    expected = SAID if composed != "composed-base" else SAID.replace("hello-production", "hello-based")
    assert boxwright("run", "--rm", "--network", "none", composed).out == expected
    boxwright("export", composed, "--load", "podman", "--load", "docker", "--load", "lxd")
    limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
    try:
        assert said("podman", "run", "--rm", *limits, "--network", "none", f"localhost/{composed}") == expected
        assert said("/usr/bin/docker", "run", "--rm", "--network", "none", composed) == expected
        assert _in_lxd(composed) == expected
    finally:
        subprocess.run(["podman", "rmi", "-f", f"localhost/{composed}"], check=False, capture_output=True)
        subprocess.run(["/usr/bin/docker", "rmi", "-f", composed], check=False, capture_output=True)
        subprocess.run(["lxc", "image", "delete", composed], check=False, capture_output=True)


def _in_lxd(alias: str) -> str:
    """What the program says in LXD, where the same program, which waits for a line, stands in place of an init."""
    try:
        said("lxc", "init", alias, INSTANCE, "-c", "raw.lxc=lxc.init.cmd = /usr/bin/hello /dev/console")
        said("lxc", "start", INSTANCE)
        return said("lxc", "exec", INSTANCE, "--", "/usr/bin/hello", "/etc/hello/hello.conf")
    finally:
        subprocess.run(["lxc", "delete", "-f", INSTANCE], check=False, capture_output=True)


ALL_TYPES = """\
{vars}
- package: {{type: embedded, path: ./pkgs/hello}}
- sync: {{src: ./files/hello.conf, dest: /etc/hello/hello.conf, chmod: 0640, chown: greeter, templates: true}}
{images}
"""
TYPES = ("aci", "oci", "lxc", "lxd", "rootfs", "squashfs")
MANIFEST = """{"acKind": "ImageManifest", "acVersion": "0.6.1", "name": "sysadmin42/all",
       "annotations": [{"name": "authors", "value": "Sysadmin42"}],
       "app": {"exec": ["/usr/bin/hello", "/etc/hello/hello.conf"], "user": "0", "group": "0"}}"""
CONFIG = '{"config": {"Entrypoint": ["/usr/bin/hello", "/etc/hello/hello.conf"]}}'


def all_types() -> str:
    images = "\n".join(
        f"- image:\n    type: {kind}\n    output: out.{kind}\n    content: |\n      "
        + (MANIFEST if kind == "aci" else CONFIG)
        for kind in TYPES
    )
    return ALL_TYPES.format(vars=CONTAINER.splitlines()[0], images=images)


@pytest.fixture
def written(boxwright: Program, directory: Callable[[str], Path]) -> Path:
    """The directory in which a container is, in each format."""
    place = directory(all_types())
    boxwright("build", place, "-t", "all-types", cwd=place.parent / "out", timeout=600)
    return place.parent / "out"


def test_each_type_is_what_others_read(written: Path, tmp_path: Path) -> None:
    assert {path.name for path in written.iterdir()} == {f"out.{kind}" for kind in TYPES} | {".out.rootfs.boxwright"}
    roots = {"rootfs": written / "out.rootfs"}
    (layer,) = json.loads(said("skopeo", "inspect", "--raw", f"oci:{written}/out.oci"))["layers"]
    (tmp_path / "oci").mkdir()
    blob = written / "out.oci/blobs/sha256" / layer["digest"].partition(":")[2]
    said("tar", "-C", tmp_path / "oci", "--numeric-owner", "--zstd", "-xpf", blob)
    roots["oci"] = tmp_path / "oci"
    said("unsquashfs", "-q", "-n", "-d", tmp_path / "squashfs", written / "out.squashfs")
    roots["squashfs"] = tmp_path / "squashfs"
    for kind, archive in (("aci", "out.aci"), ("lxd", "out.lxd")):
        (tmp_path / kind).mkdir()
        said("tar", "-C", tmp_path / kind, "--numeric-owner", "-xpzf", written / archive)
        roots[kind] = tmp_path / kind / "rootfs"
    (tmp_path / "lxc").mkdir()
    said("tar", "-C", tmp_path / "lxc", "--numeric-owner", "-xpJf", written / "out.lxc/rootfs.tar.xz")
    roots["lxc"] = tmp_path / "lxc"
    expected = listed(roots["rootfs"])
    assert "640 950 950 /etc/hello/hello.conf" in "\n".join(expected)
    for kind, root in roots.items():
        assert said("chroot", root, "/usr/bin/hello", "/etc/hello/hello.conf") == SAID, kind
        assert listed(root) == expected, kind
    check_metadata(written, tmp_path)


def listed(root: Path) -> list[str]:
    """Every path with mode, owner and content, as find and sha256sum have them."""
    paths = said("find", root, "-mindepth", "1", "!", "-type", "l", "-printf", "%m %U %G /%P\n").splitlines()
    links = said("find", root, "-type", "l", "-printf", "/%P %l\n").splitlines()
    sums = said("sh", "-c", f"cd {root} && find . -type f -exec sha256sum {{}} +").splitlines()
    return sorted([*paths, *links, *sums])


def check_metadata(written: Path, tmp_path: Path) -> None:
    """What each format says beside the tree."""
    manifest = json.loads((tmp_path / "aci/manifest").read_text())
    assert manifest == json.loads(MANIFEST)
    assert yaml.safe_load((tmp_path / "lxd/metadata.yaml").read_text())["architecture"] == "x86_64"
    with tarfile.open(written / "out.lxc/meta.tar.xz") as meta:
        config = (meta.extractfile("config") or pytest.fail("no config")).read().decode()
    assert "lxc.init.cmd = /usr/bin/hello /etc/hello/hello.conf\n" in config
    inspected = json.loads(said("skopeo", "inspect", "--config", f"oci:{written}/out.oci"))
    assert inspected["config"]["Entrypoint"] == ["/usr/bin/hello", "/etc/hello/hello.conf"]
    assert inspected["author"] == "Sysadmin42"


@pytest.mark.engine("lxc")
def test_lxc_makes_a_container_of_it(written: Path) -> None:
    image = written / "out.lxc"
    try:
        said(
            "lxc-create",
            "-n",
            INSTANCE,
            "-t",
            "local",
            "--",
            "--metadata",
            image / "meta.tar.xz",
            "--fstree",
            image / "rootfs.tar.xz",
        )
        root = said("lxc-info", "-n", INSTANCE, "-c", "lxc.rootfs.path").partition("=")[2].strip().removeprefix("dir:")
        assert said("chroot", root, "/usr/bin/hello", "/etc/hello/hello.conf") == SAID
        started = said("lxc-info", "-n", INSTANCE, "-c", "lxc.init.cmd")
        assert started.partition("=")[2].strip() == "/usr/bin/hello /etc/hello/hello.conf"
    finally:
        subprocess.run(["lxc-destroy", "-f", "-n", INSTANCE], check=False, capture_output=True)


def test_what_is_as_it_was_written_stays(boxwright: Program, written: Path) -> None:
    place = written.parent / "hello-prod"
    before = stamps(written)
    again = boxwright("build", place, "-t", "all-types", cwd=written)
    assert [line.rpartition("[")[2] for line in again.err.splitlines() if "Packaging" in line] == ["UP TO DATE]"] * 6
    assert stamps(written) == before, "nothing was written again"

    (written / "out.rootfs/etc/hello/hello.conf").write_text("spoilt\n")
    (written / "out.lxc/meta.tar.xz").unlink()
    mended = boxwright("build", place, "-t", "all-types", cwd=written).err.splitlines()
    status = {line.split()[3].rstrip("."): line.rpartition("[")[2] for line in mended if "Packaging" in line}
    assert {kind for kind, shown in status.items() if shown == "OK]"} == {"LXC", "ROOTFS"}
    assert (written / "out.rootfs/etc/hello/hello.conf").read_text() == "name=hello-production\n"
    assert (written / "out.lxc/meta.tar.xz").is_file()

    (place / "files/hello.conf").write_text("changed={{ name }}\n")
    assert "UP TO DATE" not in boxwright("build", place, "-t", "all-types", cwd=written).err
    assert (written / "out.rootfs/etc/hello/hello.conf").read_text() == "changed=hello-production\n"


def test_what_somebody_else_wrote_stays(boxwright: Program, tmp_path: Path) -> None:
    """A definition says where its images go; it may come from anywhere."""
    place = tmp_path / "small"
    place.mkdir()
    (place / "f").write_text("one")
    (tmp_path / "precious.txt").write_text("precious")
    (place / "container.yaml").write_text(
        "- sync: {src: f, dest: /f}\n- image: {type: squashfs, output: ../precious.txt}\n"
    )
    for words in ((), ("--dry-run",)):
        refused = boxwright("build", place, *words, cwd=place, status=1)
        assert "[output.not-empty]" in refused.err
        assert "container.yaml:2:3: error" in refused.err
        assert (tmp_path / "precious.txt").read_text() == "precious"

    (tmp_path / "precious.txt").unlink()
    for content in ("one", "two"):  # its own are written over
        (place / "f").write_text(content)
        boxwright("build", place, cwd=place)
        assert said("unsquashfs", "-cat", tmp_path / "precious.txt", "f") == content


def test_two_images_have_two_places(boxwright: Program, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    (place / "f").write_text("one")
    twice = "- image: {type: squashfs}\n" * 2
    (place / "container.yaml").write_text(f"- sync: {{src: f, dest: /f}}\n{twice}")
    refused = boxwright("build", place, cwd=place, status=1)
    assert "[output.twice]" in refused.err
    assert "container.yaml:3:3: error" in refused.err
    assert sorted(os.listdir(place)) == ["container.yaml", "f"]


def stamps(place: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
        for path in sorted(place.rglob("*"))
    }


def test_an_export_has_the_manifest_of_the_definition(
    boxwright: Program, directory: Callable[[str], Path], tmp_path: Path
) -> None:
    text = CONTAINER.replace('"app":', '"annotations": [{"name": "homepage", "value": "https://example.org"}], "app":')
    place = directory(text)
    boxwright("build", place, "-o", f"aci:{tmp_path}/built.aci", cwd=tmp_path / "out", timeout=600)
    assert list((tmp_path / "out").iterdir()) == [], "what -o says is what is written"
    boxwright("export", IMAGE, f"aci:{tmp_path}/exported.aci")
    assert (tmp_path / "built.aci").read_bytes() == (tmp_path / "exported.aci").read_bytes()
    with gzip.open(tmp_path / "exported.aci") as stream, tarfile.open(fileobj=stream) as archive:
        manifest = json.load(archive.extractfile("manifest") or pytest.fail("no manifest"))
    assert manifest["name"] == "hello-production-2.0-p1"
    assert manifest["acVersion"] == "0.6.1"
    assert manifest["annotations"] == [{"name": "homepage", "value": "https://example.org"}]
