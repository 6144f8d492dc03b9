"""Registries that fail, stall, cut, lie or are full: the image gets through whole, or an error says why not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, Result
from tests.integration.registries import FaultProxy, Registry, proxied, serving
from tests.integration.test_layers import needed
from tests.integration.test_push import run

Context = Callable[..., Path]
FILES = {f"d{number // 10}/{number}.txt": os.urandom(40_000) for number in range(60)}
RECIPE = "FROM tar:{base}\nCOPY . /app\n"
QUICK = ("--retry-delay", "0.01", "--timeout", "2")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    with proxied(registry) as found:
        yield found


@pytest.fixture
def app(boxwright: Program, context: Context, busybox_base: Path) -> str:
    boxwright("build", context(RECIPE.format(base=busybox_base), FILES), "-q", "-t", "app-for-faults")
    return "app-for-faults"


def is_whole(registry: Registry, path: str) -> bool:
    """Whether skopeo can read every byte of what the tag names."""
    skopeo = [needed("skopeo"), "copy", "-q", "--src-tls-verify=false", f"docker://{registry.host}/{path}", "dir:"]
    target = registry.root.parent / "read"
    done = subprocess.run([*skopeo[:-1], f"dir:{target}"], capture_output=True, check=False)
    run("rm", "-rf", target)
    return done.returncode == 0


def first_of(method: str, part: str, harm: str, count: int = 1) -> Callable[[str, str, int], str]:
    """Harm the first `count` requests of a kind."""
    left = [count]

    def decide(asked: str, path: str, _: int) -> str:
        if asked != method or part not in path or not left[0]:
            return ""
        left[0] -= 1
        return harm

    return decide


@pytest.mark.parametrize(
    ("number", "method", "part", "harm"),
    [
        (1, "PUT", "/blobs/", "500"),
        (2, "PUT", "/blobs/", "429"),
        (3, "PUT", "/blobs/", "reset"),
        (4, "POST", "/blobs/", "reset"),
        (5, "PUT", "/manifests/", "503"),
        (6, "HEAD", "/blobs/", "reset"),
        (7, "PUT", "/blobs/", "stall"),
        (8, "GET", "/manifests/", "502"),
    ],
)
def test_a_push_tries_again(
    boxwright: Program, registry: Registry, proxy: FaultProxy, app: str, number: int, method: str, part: str, harm: str
) -> None:
    proxy.harm = first_of(method, part, harm, 2)
    boxwright("push", app, f"{proxy.host}/faults/push{number}:v1", *QUICK)
    assert is_whole(registry, f"faults/push{number}:v1")


@pytest.mark.parametrize(
    ("harm", "code"),
    [("500", "registry.server-error"), ("429", "registry.too-many-requests"), ("reset", "registry.unreachable")],
)
def test_a_push_gives_up_with_a_reason(
    boxwright: Program, registry: Registry, proxy: FaultProxy, app: str, harm: str, code: str
) -> None:
    proxy.harm = lambda method, path, _: harm if method == "PUT" and "/blobs/" in path else ""
    said = boxwright("push", app, f"{proxy.host}/faults/never:v1", "--retry", "1", *QUICK, status=5).err
    assert f"[{code}]" in said
    assert "Traceback" not in said
    assert not is_whole(registry, "faults/never:v1")


def test_statuses_that_trying_again_does_not_mend(boxwright: Program, proxy: FaultProxy, app: str) -> None:
    for status, code in ((403, "registry.denied"), (400, "registry.refused"), (413, "registry.too-large")):
        proxy.seen.clear()
        proxy.harm = first_of("POST", "/blobs/", str(status), 99)
        said = boxwright("push", app, f"{proxy.host}/faults/final{status}:v1", *QUICK, status=5).err
        assert f"[{code}]" in said
        assert proxy.count("POST", "/blobs/") <= 5


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        ("500", ""),
        ("reset", ""),
        ("stall", ""),
        ("cut", ""),
        ("lie", ""),
        ("flip", "registry.digest"),
        ("endless", "registry.bad-answer"),
    ],
)
def test_a_pull_gets_the_very_bytes_or_fails(
    boxwright: Program, fresh_boxwright: Program, proxy: FaultProxy, app: str, harm: str, code: str
) -> None:
    name = f"{proxy.host}/faults/pull:v1"
    identity = json.loads(boxwright("inspect", app).out)[0]["identity"]
    boxwright("push", app, name)
    proxy.harm = first_of("GET", "/blobs/", harm, 2)
    got: Result = fresh_boxwright("pull", name, "-t", "got", *QUICK, status=None)
    if code:
        assert (got.status, f"[{code}]" in got.err) == (5, True), got
        assert "got" not in fresh_boxwright("images").out
        proxy.harm = first_of("", "", "")
        got = fresh_boxwright("pull", name, "-t", "got")
    assert got.status == 0, got
    assert identity in got.out
    fresh_boxwright("fsck")


def test_another_manifest_than_the_one_asked_for(
    boxwright: Program, fresh_boxwright: Program, proxy: FaultProxy, app: str
) -> None:
    name = f"{proxy.host}/faults/manifest"
    digest = boxwright("push", app, f"{name}:v1", "-q").out.strip()
    proxy.harm = first_of("GET", "/manifests/", "flip")
    assert "[registry." in fresh_boxwright("pull", f"{name}@{digest}", *QUICK, status=5).err
    proxy.harm = first_of("GET", "/manifests/", "cut", 9)
    assert "[registry." in fresh_boxwright("pull", f"{name}@{digest}", "--retry", "1", *QUICK, status=5).err


def test_a_push_that_is_killed_can_be_done_again(
    boxwright: Program, registry: Registry, proxy: FaultProxy, app: str
) -> None:
    name = f"{proxy.host}/faults/killed:v1"
    proxy.harm = lambda *asked: "stall" if asked[0] == "PUT" and asked[2] > 1 else ""
    process = boxwright.start("push", app, name)
    while proxy.count("PUT", "/blobs/") < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not is_whole(registry, "faults/killed:v1")
    proxy.harm = first_of("", "", "")
    boxwright("push", app, name)
    assert is_whole(registry, "faults/killed:v1")


@pytest.mark.parametrize("harm", ["500", "stall"])
def test_ctrl_c_ends_a_push(boxwright: Program, proxy: FaultProxy, app: str, harm: str) -> None:
    proxy.harm = first_of("PUT", "/blobs/", harm, 99)
    process = boxwright.start("push", app, f"{proxy.host}/faults/stopped:v1", "--retry", "9", "--retry-delay", "5")
    while not proxy.count("PUT", "/blobs/") and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_at_the_registry(boxwright: Program, app: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", small)
    try:
        (tmp_path / "registry").mkdir()
        with serving(tmp_path / "registry", root=small / "storage") as full:
            said = boxwright("push", app, f"{full.host}/full/app:v1", "--retry", "1", *QUICK, status=5).err
            assert "[registry.no-space]" in said or "[registry.server-error]" in said, said
            run("mount", "-o", "remount,size=50m", small)
            boxwright("push", app, f"{full.host}/full/app:v1")
            assert is_whole(full, "full/app:v1")
    finally:
        run("umount", small)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_here(boxwright: Program, registry: Registry, app: str, tmp_path: Path) -> None:
    boxwright("push", app, f"{registry.host}/full/here:v1")
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "none", small)
    try:
        tight = boxwright.at(small / "store")
        assert "[store.no-space]" in tight("pull", f"{registry.host}/full/here:v1", status=4).err
        run("mount", "-o", "remount,size=60m", small)
        tight("pull", f"{registry.host}/full/here:v1")
    finally:
        run("umount", small)


def test_nobody_is_there(boxwright: Program, app: str) -> None:
    assert "[registry.unreachable]" in boxwright("push", app, "127.0.0.1:1/a/b", *QUICK, status=5).err
    assert "[registry.unreachable]" in boxwright("pull", "no-such-host.invalid/a/b", *QUICK, status=5).err


def test_two_pushes_at_once_agree(boxwright: Program, registry: Registry, app: str, tmp_path: Path) -> None:
    name = f"{registry.host}/faults/twice:v1"
    key = tmp_path / "key"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key)
    key.chmod(0o600)
    boxwright("push", app, name)
    words = (("--sbom", "spdx"), ("--sbom", "cyclonedx"), ("--sign", str(key)))
    running = [boxwright.start("push", app, name, *more) for more in words]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    digest = boxwright("push", app, name, "-q").out.strip()
    index = registry.get(
        f"faults/twice/manifests/{digest.replace(':', '-')}", "application/vnd.oci.image.index.v1+json"
    )
    assert len(index["manifests"]) == 3  # type: ignore[arg-type]
