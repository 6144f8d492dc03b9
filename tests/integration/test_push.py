"""push: docker-registry takes it; docker, podman, skopeo and umoci judge what is there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.registries import Registry, proxied, serving
from tests.integration.test_layers import needed, tree_of

Context = Callable[..., Path]
FILES = {f"d{number // 20}/{number}.txt": os.urandom(15_000) for number in range(200)}
RECIPE = """\
FROM tar:{base}
COPY . /app
RUN mkdir -p /x/y && echo one > /x/one && ln /x/one /x/y/two && chmod 1777 /x && ln -s /x/one /x/soft && mkdir /empty
CMD ["cat", "/app/note"]
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def place(context: Context, busybox_base: Path) -> Path:
    return context(RECIPE.format(base=busybox_base), {**FILES, "note": "first\n"})


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def unpacked(layout: Path, bundle: Path, *, name: str = "v1") -> object:
    run(needed("umoci"), "unpack", "--image", f"{layout}:{name}", bundle)
    return tree_of(bundle / "rootfs")


def test_push_and_skopeo_has_the_same_image(
    boxwright: Program, registry: Registry, place: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:v1"
    identity = boxwright("build", place, "-q", "-t", name).out.strip()
    digests = {}
    for how in ("flat", "auto:2", "auto"):
        said = boxwright("push", identity, name, "--layers", how).out.strip()
        shown = json.loads(run(needed("skopeo"), "inspect", "--tls-verify=false", f"docker://{name}"))
        assert said == f"{name}@{shown['Digest']}"
        digests[how] = shown["Digest"]
        assert len(shown["Layers"]) <= {"flat": 1, "auto:2": 2, "auto": 64}[how]
        manifest = registry.get("team/app/manifests/v1")
        assert manifest["annotations"]["dev.boxwright.identity"] == identity  # type: ignore[index]
        run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/{how}:v1")
    assert len(set(digests.values())) == 3
    flat = unpacked(tmp_path / "flat", tmp_path / "b-flat")
    for how in ("auto:2", "auto"):
        assert unpacked(tmp_path / how, tmp_path / f"b-{how}") == flat
    again = boxwright("push", identity, name, "--layers", "auto").out.strip()
    assert again.endswith(digests["auto"])


def test_one_changed_file_sends_little(fresh_boxwright: Program, registry: Registry, place: Path) -> None:
    name = f"{registry.host}/team/delta:v1"
    fresh_boxwright("build", place, "-q", "-t", name, "--push")
    before = registry.blobs()
    (place / "note").write_text("second\n")
    with proxied(registry) as proxy:
        other = f"{proxy.host}/team/delta:v1"
        fresh_boxwright("build", place, "-q", "-t", other)
        said = fresh_boxwright("push", other).err
        assert proxy.count("PUT", "/blobs/") <= 3, proxy.seen
        assert proxy.count("HEAD", "/blobs/") <= 4, proxy.seen
    assert said.startswith(("1 of ", "2 of ")), said
    new = {digest: size for digest, size in registry.blobs().items() if digest not in before}
    assert sum(new.values()) < 2_000_000 < sum(before.values())


def test_what_was_packed_once_is_not_packed_again(
    fresh_boxwright: Program, registry: Registry, tmp_path: Path, place: Path
) -> None:
    """A second registry needs the bytes; a push to one that has them reads no file of the tree."""
    name = f"{registry.host}/team/once:v1"
    fresh_boxwright("build", place, "-q", "-t", name)
    first = fresh_boxwright("push", name)
    assert not first.err.startswith("0 of ")
    (file,) = fresh_boxwright.home.glob("l/*/app/note")
    kept = file.read_bytes()
    file.write_bytes(b"wrong\n")  # to be seen if it were read
    second = fresh_boxwright("push", name, f"{registry.host}/team/once:v2")
    assert second.err.startswith("0 of ")
    assert second.out.partition("@")[2] == first.out.partition("@")[2]
    file.write_bytes(kept)
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other") as other:
        third = fresh_boxwright("push", name, f"{other.host}/team/once:v1")
        assert third.out.partition("@")[2] == first.out.partition("@")[2]
        assert set(other.blobs()) <= set(registry.blobs())


@pytest.mark.engine("docker")
def test_docker_pulls_and_runs(boxwright: Program, registry: Registry, place: Path) -> None:
    name = f"{registry.host}/team/docker:v1"
    boxwright("build", place, "-q", "-t", name, "--push", "--layers", "auto:20")
    try:
        assert run("docker", "run", "--rm", name) == "first\n"
        assert run("docker", "run", "--rm", name, "stat", "-c", "%a %h", "/x", "/x/y/two").split()[0] == "1777"
    finally:
        run("docker", "image", "rm", "-f", name)


@pytest.mark.engine("podman")
def test_podman_pulls_and_runs(boxwright: Program, registry: Registry, place: Path) -> None:
    name = f"{registry.host}/team/podman:v1"
    boxwright("build", place, "-q", "-t", name)
    boxwright("push", name, "--compression", "zstd")
    limits = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")
    try:
        run("podman", "pull", "-q", "--tls-verify=false", name)
        assert run("podman", "run", "--rm", *limits, name) == "first\n"
    finally:
        run("podman", "image", "rm", "-f", name)


def test_layers_of_an_output(boxwright: Program, place: Path, tmp_path: Path) -> None:
    (place / "note").write_text("of its own, so that it has this name alone\n")
    identity = boxwright("build", place, "-q", "-t", "layered-out", "-o", f"oci,compression=gzip:{tmp_path}/flat").out
    boxwright("export", "--layers", "auto:7", "layered-out", f"oci,compression=gzip:{tmp_path}/seven")
    boxwright(
        "build", "--layers", "auto:7", place, "-q", "-t", "layered-out", "-o", f"oci,compression=gzip:{tmp_path}/same"
    )
    assert boxwright("images", "-q").out.count(identity.strip()) >= 1
    seven, same = (json.loads((tmp_path / name / "index.json").read_bytes()) for name in ("seven", "same"))
    assert seven["manifests"][0]["digest"] == same["manifests"][0]["digest"]
    trees = [unpacked(tmp_path / name, tmp_path / f"b-{name}", name="layered-out:latest") for name in ("flat", "seven")]
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("push", "NAME", "--layers", "auto:0"), "usage.layers"),
        (("push", "NAME", "--layers", "auto:500"), "usage.layers"),
        (("push", "NAME", "--layers", "instructions"), "usage.layers"),
        (("push", "NAME", "UPPER/case"), "registry.bad-name"),
        (("push", "nothing-of-this-name"), "image.unknown"),
        (("build", "PLACE", "--push"), "usage.push"),
        (("build", "PLACE", "--layers=some", "-o", "oci:x"), "usage.layers"),
    ],
)
def test_wrong_use(boxwright: Program, place: Path, arguments: tuple[str, ...], code: str) -> None:
    boxwright("build", place, "-q", "-t", "used-wrongly")
    words = [{"NAME": "used-wrongly", "PLACE": str(place)}.get(word, word) for word in arguments]
    assert f"[{code}]" in boxwright(*words, status=None).err


@pytest.mark.ordinary_user
def test_an_ordinary_user_pushes_and_pulls(
    ordinary_boxwright: Program, registry: Registry, place: Path, busybox_base: Path
) -> None:
    for path in (busybox_base, *busybox_base.parents, *place.parents):
        if path.stat().st_uid == os.geteuid() and "pytest" in str(path):
            path.chmod(path.stat().st_mode | 0o055)
    name = f"{registry.host}/team/ordinary:v1"
    identity = ordinary_boxwright("build", place, "-q", "--network", "none", "-t", name).out.strip()
    ordinary_boxwright("push", name)
    ordinary_boxwright("rm", name)
    ordinary_boxwright("gc", "--all")
    assert identity in ordinary_boxwright("pull", name).out
    assert ordinary_boxwright("run", "--rm", "--network", "none", name).out == "first\n"
