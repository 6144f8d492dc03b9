"""Binary repositories: what one machine built another fetches, over every kind of place, whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.integration import registries
from tests.integration.binhosts import SSH, World, archives, long, noisy, same
from tests.integration.test_registry import BCRYPT

# What one machine built, every other fetches -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["directory", "serve", SSH, "s3", "oci"])
def test_a_second_machine_compiles_nothing(world: World, place: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(place)
    first, second = world.machine("first"), world.machine("second")
    first("build", world.tree / "pkgs/app", "--push")
    world.trust(first)
    built = second("build", world.tree / "pkgs/app")
    assert "Can't find HASH" not in built.err
    assert built.err.count("Found HASH in ") == 2
    assert "Running its tests" not in built.err  # they passed where it was built
    assert archives(first) == archives(second)  # what no two builds have alike
    assert len(archives(second)) == 2
    # A machine that trusts nobody builds by itself and says why.
    world.keys = ""
    stranger = world.machine("stranger")
    assert stranger("build", world.tree / "pkgs/app").err.count("Can't find HASH") == 2
    world.trust(first)
    world.verify()


def test_a_lock_brings_the_toolchain_too(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    first("lock", world.tree / "pkgs/app")
    first("build", world.tree / "pkgs/app", "--push")
    world.trust(first)
    built = second("build", world.tree / "pkgs/app")
    assert "Preparing toolchain" not in built.err  # nobody needed it
    assert archives(first) == archives(second)
    assert second("build", world.tree / "pkgs/app", "--dry-run").out.count("CACHED") >= 3
    # Where something must be built after all, the toolchain of the lock is fetched, not made.
    (world.tree / "pkgs/lib/src/data").write_text("other\n")
    third = world.machine("third")
    third("build", world.tree / "pkgs/app")
    (pinned,) = json.loads((world.tree / "pkgs/app/boxwright.lock").read_text())["bases"].values()
    with sqlite3.connect(third.home / "index.db") as index:
        trees = index.execute("SELECT layers FROM snapshots WHERE content=?", (pinned["content"],)).fetchall()
    assert len(trees) == 2  # as it came, and under the name that it has in the build
    assert len(set(trees)) == 1
    third("fsck")


def test_a_source_that_is_gone_elsewhere_comes_from_the_repository(world: World) -> None:
    from tests.integration.web import Page, serving

    first, second = world.machine("first"), world.machine("second")
    text = b"a source"
    definition = world.tree / "pkgs/lib/pkg.yaml"
    with serving(world.path / "git") as server:
        server.pages["/data"] = Page(text)
        url = f"{{url: {server.url}/data, sha256: {hashlib.sha256(text).hexdigest()}, unpack: false}}"
        definition.write_text(definition.read_text().replace("{local: src}", url))
        first("build", world.tree / "pkgs/lib", "--push")
    world.trust(first)
    definition.write_text(definition.read_text().replace("version: 1.0", "version: 1.1"))  # must be built
    built = second("build", world.tree / "pkgs/lib")
    assert "Can't find HASH" in built.err


def test_the_packages_of_a_manifest_too(world: World, busybox_base: Path, tmp_path: Path) -> None:
    (world.tree / "container.yaml").unlink()
    text = "packages: [{type: embedded, path: ./pkgs/lib}]\nscript: [cat /usr/share/lib/data]\n"
    (world.tree / "manifest.yaml").write_text(f"image: tar:{busybox_base}\n{text}artifact: demo/shop:1\n")
    first, second, third = (world.machine(name) for name in ("first", "second", "third"))
    built = first("build", world.tree, "--push")
    assert "Uploading packages to 'here'" in built.err
    assert "Uploading image to 'here'" in built.err
    world.trust(first)
    second("build", world.tree, "--progress", "plain")
    assert archives(second) == archives(first)  # no two builds are the same
    second("pull", "demo/shop:1", cwd=world.tree)
    world.verify()
    # Where no repository is configured `--push` means registries.
    with registries.serving(tmp_path / "registry") as registry:
        (world.tree / ".boxwright-config.yaml").unlink()
        name = f"{registry.host}/demo/shop:2"
        pushed = first("build", world.tree, "--push", "-t", name)
        assert f"{name}@sha256:" in pushed.out
        third("pull", name)
        assert "[registry." in first("build", world.tree, "--push", "-t", "127.0.0.1:1/x:1", status=5).err


@pytest.mark.engine("ssh")
@pytest.mark.usefixtures("ssh")
def test_the_transcript(world: World) -> None:
    """The lines of a container's build whose packages and images go to a binary host."""
    first, second = world.machine("first"), world.machine("second")
    place = world.path / "containers"
    place.mkdir()
    shutil.move(world.tree / ".boxwright-config.yaml", place)
    subprocess.run(["git", "init", "-q", place], check=True)
    subprocess.run(["git", "-C", place, "add", "."], check=True)
    subprocess.run(f"git -C {place} -c user.name=n -c user.email=e commit -qm m".split(), check=True)
    out = world.path / "out"
    out.mkdir()
    built = first("build", world.tree, f"--discover={place},push=True", cwd=out)
    lines = [line for line in built.err.splitlines() if "HASH:" not in line]
    block = """\
Processing package from './pkgs/app' for linux/amd64.
    Can't find HASH in any known location...
    Defaulting to local build...                                           [OK]""".splitlines()
    start = lines.index(block[0])
    assert lines[0] == "Building Sysadmin42/app-production-2.0-p1"
    assert lines[start : start + 3] == block
    end = """\
    Uploading packages to 'mysuperbinhost'                                 [OK]
Packaging Sysadmin42/app-production-2.0-p1 as ACI...                       [OK]
Uploading container spec and image(s) to 'mysuperbinhost'                  [OK]""".splitlines()
    assert lines[-3:] == end
    # Another machine takes the image by its name, and the packages of a build.
    world.trust(first)
    world.configure()
    got = second("pull", "sysadmin42/app-production:2.0-p1", cwd=world.tree)
    identity = json.loads(first("inspect", "sysadmin42/app-production:2.0-p1").out)[0]
    assert json.loads(second("inspect", "sysadmin42/app-production:2.0-p1").out)[0] == identity
    assert "received from mysuperbinhost" in got.out
    second("fsck")
    found = second("search", "app", "--json", cwd=world.tree)
    assert {(hit["kind"], hit["name"]) for hit in json.loads(found.out)} >= {
        ("image", "sysadmin42/app-production:2.0-p1"),
    }
    again = second("build", world.tree, cwd=out)
    assert "Can't find HASH" not in again.err


def test_a_repository_that_is_gone_or_lies_only_costs_the_build(world: World) -> None:
    first = world.machine("first")
    first("build", world.tree / "pkgs/app", "--push")
    world.trust(first)
    blobs = [path for path in world.repository.glob("blobs/*/*") if path.stat().st_size > 300]
    for path in blobs:
        path.write_bytes(path.read_bytes()[:-7])
    built = world.machine("second")("build", world.tree / "pkgs/lib")
    assert "Can't find HASH" in built.err
    assert "[repository.truncated]" in built.err
    found = world.machine("verifier")("repo", "verify", "here", status=1, cwd=world.tree)
    assert "bytes" in found.out
    world.configuration = "{name: here, download-type: http, download-path: '127.0.0.1:1', time-limit: 2}"
    third = world.machine("third")
    assert "[repository.unreachable]" in third("build", world.tree / "pkgs/lib").err
    refused = world.machine("fourth")("build", world.tree / "pkgs/lib", "--push", status=2)
    assert "[repository.none]" in refused.err


def test_offline_asks_no_server(world: World) -> None:
    world.configuration = "{name: here, download-type: http, download-path: '127.0.0.1:1'}"
    built = world.machine("first")("build", world.tree / "pkgs/lib", "--offline")
    assert "repository." not in built.err


@pytest.mark.parametrize("place", ["directory", *map(long, (SSH, "s3", "oci"))])
def test_an_upload_that_is_killed_leaves_the_repository_whole(
    world: World, place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(place)
    first = world.machine("first")
    first("build", world.tree / "pkgs/app")
    first("repo", "key")
    world.trust(first)
    luck = random.Random(42)
    started = time.monotonic()
    first("push", "app-2.0", world.name, cwd=world.tree)
    whole = time.monotonic() - started
    world.move()
    for _ in range(5 if place == "directory" else 3):
        with first.start("push", "app-2.0", world.name, cwd=world.tree) as process:
            time.sleep(luck.uniform(0.2, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        found = first("repo", "verify", world.name, status=None, cwd=world.tree)
        assert "no findings" in found.out or "holds no repository" in found.out
    for package in ("app-2.0", "lib-1.0"):
        first("push", package, world.name, cwd=world.tree)
    assert " no findings" in first("repo", "verify", world.name, cwd=world.tree).out
    first("repo", "gc", world.name, "--grace", "0", cwd=world.tree)
    assert " no findings" in first("repo", "verify", world.name, cwd=world.tree).out
    assert world.machine("second")("build", world.tree / "pkgs/app").err.count("Found HASH in ") == 2


@pytest.mark.parametrize("place", ["directory", long(SSH), long("s3"), "oci"])
def test_two_machines_push_the_same_at_once(world: World, place: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(place)
    first, second = world.machine("first"), world.machine("second")
    first("build", world.tree / "pkgs/app")
    shutil.copytree(world.path / "first", world.path / "second", symlinks=True, dirs_exist_ok=True)
    processes = [it.start("push", "app-2.0", world.name, cwd=world.tree) for it in (first, second) * 2]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    world.trust(first)
    counted = json.loads(first("repo", "stats", world.name, "--json", cwd=world.tree).out)
    assert counted["records"] == {"package": 2}  # one, by definition and by content
    world.verify()
    assert "Found HASH in " in world.machine("third")("build", world.tree / "pkgs/app", "--no-test").err


def test_a_registry_that_wants_a_password(world: World) -> None:
    """Credentials are the registry's own: what `login` keeps, or a file that is named."""
    place = world.path / "guarded"
    place.mkdir()
    (place / "htpasswd").write_text(f"anna:{BCRYPT}\n")
    with registries.serving(place, auth={"htpasswd": {"realm": "r", "path": str(place / "htpasswd")}}) as registry:
        world.configuration = f"{{name: here, type: oci, path: '{registry.host}/boxes/main', time-limit: 5}}"
        first, second = world.machine("first"), world.machine("second")
        refused = first("build", world.tree / "pkgs/lib", "--push", status=5)
        assert "[registry.unauthorized]" in refused.err
        first("login", registry.host, "-u", "anna", "--password-stdin", stdin="pass:word\n")
        first("build", world.tree / "pkgs/lib", "--push")
        world.trust(first)
        built = second("build", world.tree / "pkgs/lib")
        assert "[registry.unauthorized]" in built.err
        assert "Can't find HASH" in built.err
        (kept,) = (world.path / "first").glob("**/auth.json")
        third = world.machine("third").with_environment(REGISTRY_AUTH_FILE=str(kept))
        found = third("build", world.tree / "pkgs/lib")
        assert "Found HASH in 'here'" in found.err
        assert "pass:word" not in refused.err + built.err + found.err


def test_two_machines_that_built_the_same_differently_agree_on_one(
    world: World, request: pytest.FixtureRequest
) -> None:
    """No two builds of `lib` are the same: whoever fetches gets one of them, whole."""
    request.getfixturevalue("oci")
    first, second = world.machine("first"), world.machine("second")
    for machine in (first, second):
        machine("build", world.tree / "pkgs/lib")
    world.trust(first)
    keys = [machine("repo", "key").out.strip() for machine in (first, second)]
    world.keys = "', '".join(keys)
    world.configure()
    processes = [it.start("push", "lib-1.0", world.name, cwd=world.tree) for it in (first, second)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    world.verify()
    third = world.machine("third")
    assert "Found HASH in " in third("build", world.tree / "pkgs/lib").err
    assert set(archives(third).items()) <= {*archives(first).items(), *archives(second).items()}


def small(place: Path, size: str) -> AbstractContextManager[None]:
    """A directory on a disk of its own, which is soon full."""

    @contextmanager
    def mounted() -> Iterator[None]:
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)

    return mounted()


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("directory", "repository.directory"),
        pytest.param("ssh", "repository.upload", marks=pytest.mark.engine("ssh")),
        ("s3", "repository.s3"),
        ("oci", "registry."),
    ],
)
def test_no_space_at_the_other_side_is_a_clear_error(
    world: World, place: str, code: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.machine("first")("build", world.tree / "pkgs/app")
    disk = {"oci": world.path / "registry/storage", "s3": world.path / "moto"}.get(place, world.repository)
    with small(disk, "200k"):
        monkeypatch.setenv("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", "1000")
        monkeypatch.setenv("TMPDIR", str(disk) if place == "s3" else "/tmp")
        request.getfixturevalue(place)
        monkeypatch.undo()
        first = world.machine("first")
        failed = first("push", "app-2.0", world.name, status=5, cwd=world.tree)
        assert f"[{code}" in failed.err
        assert "Traceback" not in failed.err
        world.trust(first)
        found = first("repo", "verify", world.name, status=None, cwd=world.tree)
        assert "no findings" in found.out or "holds no repository" in found.out
        world.stop()


@pytest.mark.parametrize("place", [long(SSH), long("s3"), "oci"])
def test_a_server_that_dies_in_an_upload_leaves_the_repository_whole(
    world: World, place: str, request: pytest.FixtureRequest, busybox_base: Path, context: Callable[..., Path]
) -> None:
    request.getfixturevalue(place)
    first = noisy(world, busybox_base, context)
    started = time.monotonic()
    first("push", "data:1", world.name, cwd=world.tree)
    whole = time.monotonic() - started
    world.move()
    luck = random.Random(3)
    for _ in range(2):
        with first.start("push", "data:1", world.name, cwd=world.tree) as process:
            time.sleep(luck.uniform(0.3, 0.95) * whole)
            world.kill()
            said = process.communicate(timeout=60)[1]
        assert process.returncode in (0, 5), said
        assert process.returncode == 0 or "[re" in said  # repository., registry.
        world.restart()
        found = first("repo", "verify", world.name, status=None, cwd=world.tree)
        assert is_whole(found, halves=place == "oci"), found
    first("push", "data:1", world.name, cwd=world.tree)
    world.verify()
    second = world.machine("second")
    second("pull", "data:1", cwd=world.tree)
    same(first, second)


def is_whole(found: Result, *, halves: bool) -> bool:
    """Whether verify found nothing wrong; `halves`: but objects of which the server itself kept only a half."""
    if "no findings" in found.out or "holds no repository" in found.out:
        return True
    findings = [line for line in (found.out + found.err).splitlines() if "/" in line]
    return halves and bool(findings) and all("answers 500" in line for line in findings)


PUSHED = (
    "main/_manifests/tags/boxwright",
    "main/_layers/",
    "tags/signatures_",
    "tags/records_",
    "journal/_manifests/tags/",
    "tags/names_",
)
"""Parts of the paths of a registry's links, in the order in which a push makes them."""


@pytest.mark.usefixtures("oci")
@pytest.mark.parametrize("last", [*map(long, PUSHED[:-1]), PUSHED[-1]])
def test_what_a_registry_kept_by_halves_is_put_again(
    world: World, last: str, busybox_base: Path, context: Callable[..., Path]
) -> None:
    """One that is killed may leave empty links, and answer 500 for each; what comes after them is not there."""
    first = noisy(world, busybox_base, context)
    first("push", "data:1", world.name, cwd=world.tree)
    world.trust(first)
    links = [it for it in (world.path / "registry/storage").rglob("link") if "/index/" not in str(it)]
    for part in PUSHED[PUSHED.index(last) :]:
        found = [it for it in links if part in str(it)]
        assert found, part
        for link in found:
            if part == last:
                link.write_text("")
            elif part != "main/_layers/":
                shutil.rmtree(link.parents[1], ignore_errors=True)
    world.kill()  # it remembers what it read
    world.restart()
    first("push", "data:1", world.name, cwd=world.tree)
    world.verify()
    second = world.machine("second")
    second("pull", "data:1", cwd=world.tree)
    same(first, second)


@pytest.mark.parametrize("place", ["serve", long("s3"), long("oci")])
def test_a_server_that_dies_in_a_download_leaves_the_store_whole(
    world: World, place: str, request: pytest.FixtureRequest, busybox_base: Path, context: Callable[..., Path]
) -> None:
    request.getfixturevalue(place)
    first = noisy(world, busybox_base, context)
    first("push", "data:1", world.name, cwd=world.tree)
    whole = world.machine("third")("pull", "data:1", cwd=world.tree).seconds
    second = world.machine("second")
    luck = random.Random(4)
    for _ in range(2):
        with second.start("pull", "data:1", cwd=world.tree) as process:
            time.sleep(luck.uniform(0.4, 0.95) * whole)
            world.kill()
            said = process.communicate(timeout=60)[1]
        assert process.returncode in (0, 5), said
        second("fsck")
        world.restart()
        first("push", "data:1", world.name, cwd=world.tree)  # moto keeps nothing
    second("pull", "data:1", cwd=world.tree)
    same(first, second)
    second("fsck")
