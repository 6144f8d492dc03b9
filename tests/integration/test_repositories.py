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
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_USER, Program, remove_tree
from tests.integration.conftest import free_port, until
from tests.integration.hosttoolchain import make_toolchain
from tests.integration.servers import listens, s3_server, ssh_server

LIB = """\
name: lib
version: 1.0
sources: [{local: src}]
phases:
  install: |
    mkdir -p $DESTDIR/usr/share/lib
    cat data >$DESTDIR/usr/share/lib/data
    head -c 64 /dev/urandom >$DESTDIR/usr/share/lib/random   # no two builds are the same
"""
APP = """\
name: app
version: 2.0
depends: [./../lib]
phases:
  install: mkdir -p $DESTDIR/usr/bin; cp /bin/busybox $DESTDIR/usr/bin/busybox
test: [[busybox, "true"]]
"""
CONTAINER = """\
- vars: {author: Sysadmin42, name: app-production, version: 2.0-p1, os: linux, arch: amd64}
- package: {type: embedded, path: ./pkgs/app}
- image: {type: aci, content: '{"acKind": "ImageManifest", "acVersion": "0.6.1", "name": "{{ name }}-{{ version }}"}'}
"""


@pytest.fixture(scope="session")
def host_toolchain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("host-toolchain")
    return make_toolchain(place / "toolchain.tar", place)


class World:
    """A tree of definitions, a repository, and machines: programs with a store and a home directory of their own."""

    def __init__(self, path: Path, toolchain: Path) -> None:
        self.path = path
        self.tree = path / "tree"
        (self.tree / ".git").mkdir(parents=True)
        (self.tree / "container.yaml").write_text(CONTAINER)
        for name, text in (("lib", LIB), ("app", APP)):
            (self.tree / "pkgs" / name).mkdir(parents=True)
            (self.tree / "pkgs" / name / "pkg.yaml").write_text(f"{text}toolchain: tar:{toolchain}\n")
        (self.tree / "pkgs/lib/src").mkdir()
        (self.tree / "pkgs/lib/src/data").write_text("data\n")
        self.repository = path / "repository"
        self.configuration = f"{{name: here, type: directory, path: {self.repository}}}"
        self.environment: dict[str, str] = {}
        self.keys = ""

    def machine(self, name: str) -> Program:
        """A machine: its first push makes it a key; `trust` lets all machines take what another signed."""
        (self.path / name).mkdir(exist_ok=True)
        self.configure()
        environment = {"HOME": str(self.path / name), "XDG_CONFIG_HOME": "", **self.environment}
        return Program(self.path / name / "store", environment)

    def configure(self) -> None:
        text = self.configuration.rstrip("}") + (f", keys: ['{self.keys}']}}" if self.keys else "}")
        (self.tree / ".boxwright-config.yaml").write_text(f"repository: {text}\n")

    def trust(self, machine: Program) -> None:
        self.keys = machine("repo", "key").out.strip()
        self.configure()

    def verify(self) -> None:
        found = self.machine("verifier")("repo", "verify", "here", cwd=self.tree)
        assert " no findings" in found.out


@pytest.fixture
def world(tmp_path: Path, host_toolchain: Path) -> Iterator[World]:
    found = World(tmp_path, host_toolchain)
    yield found
    for store in tmp_path.glob("*/store"):
        remove_tree(store)


def archives(machine: Program) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (machine.home / "blobs").glob("*.zst")}


# Places ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(world: World) -> None:
    pass


@pytest.fixture
def serve(world: World) -> Iterator[None]:
    """The directory is written as such, and read over HTTP from `boxwright serve`."""
    world.machine("admin")("repo", "init", world.repository)
    with Program(world.path / "serve/store").start("serve", world.repository, "--port", "0") as server:
        assert server.stdout is not None
        server.stdout.readline()
        address = server.stdout.readline().split()[-1]
        world.configuration = (
            f"{{name: here, upload-type: directory, upload-path: {world.repository},"
            f" download-type: http, download-path: '{address}', time-limit: 5}}"
        )
        yield
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=10)


@pytest.fixture
def ssh(world: World) -> Iterator[None]:
    """Written over a real sshd of this test's own, by a user's own configuration, read from busybox's web server."""
    world.repository.mkdir()
    page = free_port()
    with ssh_server(world.path / "ssh", "mysuperbinhost") as environment:
        world.environment |= environment
        web = subprocess.Popen(["busybox", "httpd", "-f", "-p", f"127.0.0.1:{page}", "-h", world.repository])
        try:
            until(lambda: listens(page))
            world.configuration = (
                f"{{name: mysuperbinhost, upload-type: ssh, upload-path: mysuperbinhost{world.repository},"
                f" download-type: http, download-path: '127.0.0.1:{page}', time-limit: 5}}"
            )
            yield
        finally:
            web.terminate()
            web.wait(10)


@pytest.fixture
def s3(world: World) -> Iterator[None]:
    """A bucket of moto's server."""
    with s3_server() as address:
        world.environment |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        world.configuration = f"{{name: here, type: s3, path: bucket/deep/prefix, endpoint: '{address}'}}"
        yield


# What one machine built, every other fetches -------------------------------------------------------------------------


SSH = pytest.param("ssh", marks=pytest.mark.engine("ssh"))


@pytest.mark.parametrize("place", ["directory", "serve", SSH, "s3"])
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
    name = "mysuperbinhost" if place == "ssh" else "here"
    world.trust(first)
    world.configure()
    found = world.machine("verifier")("repo", "verify", name, cwd=world.tree)
    assert " no findings" in found.out


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


@pytest.mark.parametrize("place", ["directory", SSH])
def test_an_upload_that_is_killed_leaves_the_repository_whole(
    world: World, place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(place)
    first = world.machine("first")
    first("build", world.tree / "pkgs/app")
    first("repo", "key")
    world.trust(first)
    name = "mysuperbinhost" if place == "ssh" else "here"
    luck = random.Random(42)
    started = time.monotonic()
    first("push", "app-2.0", name, cwd=world.tree)
    whole = time.monotonic() - started
    for path in world.repository.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(5):
        with first.start("push", "app-2.0", name, cwd=world.tree) as process:
            time.sleep(luck.uniform(0.2, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if (world.repository / "boxwright-repository.json").exists():
            found = first("repo", "verify", name, cwd=world.tree)
            assert " no findings" in found.out
    for package in ("app-2.0", "lib-1.0"):
        first("push", package, name, cwd=world.tree)
    assert " no findings" in first("repo", "verify", name, cwd=world.tree).out
    first("repo", "gc", name, "--grace", "0", cwd=world.tree)
    assert " no findings" in first("repo", "verify", name, cwd=world.tree).out
    assert world.machine("second")("build", world.tree / "pkgs/app").err.count("Found HASH in ") == 2


def test_two_machines_push_the_same_at_once(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    first("build", world.tree / "pkgs/app")
    shutil.copytree(world.path / "first", world.path / "second", symlinks=True, dirs_exist_ok=True)
    processes = [it.start("push", "app-2.0", "here", cwd=world.tree) for it in (first, second) * 2]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert len(list(world.repository.glob("records/*/*/*"))) == 2  # by definition and by content
    world.trust(first)
    world.verify()


def test_no_space_at_the_other_side_is_a_clear_error(world: World) -> None:
    first = world.machine("first")
    first("build", world.tree / "pkgs/app")
    world.repository.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", world.repository], check=True)
    try:
        failed = first("push", "app-2.0", "here", status=5, cwd=world.tree)
        assert "[repository.directory]" in failed.err
        world.trust(first)
        world.verify()
    finally:
        subprocess.run(["umount", world.repository], check=True)


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("serve")
def test_a_changed_file_costs_its_change(world: World, busybox_base: Path, context: Callable[..., Path]) -> None:
    first, second = world.machine("first"), world.machine("second")
    noise = random.Random(1)
    files: dict[str, str | bytes] = {f"files/{number}": noise.randbytes(3000) for number in range(2000)}
    files |= {"files/large": noise.randbytes(24_000_000), "files/deep/link": "x"}
    links = "ln /srv/1 /srv/hard && ln -s 2 /srv/soft && chmod 4755 /srv/2"
    place = context(f"FROM tar:{busybox_base}\nCOPY files /srv\nRUN {links}\n", files)

    def push() -> int:
        first("build", place, "-t", "data:1", "-q", "--network", "none")
        return sent(first("push", "data:1", cwd=world.tree).out)

    whole = push()
    assert whole > 29_000_000
    world.trust(first)
    assert sent(second("pull", "data:1", cwd=world.tree).out) > 29_000_000
    same(first, second)
    (place / "files/77").write_text("changed")
    assert push() < 100_000
    got = second("pull", "data:1", cwd=world.tree)
    assert sent(got.out) < 100_000
    same(first, second)
    # A few bytes in the middle of a large file cost the chunks around them.
    large = (place / "files/large").read_bytes()
    (place / "files/large").write_bytes(large[:9_000_000] + b"inserted" + large[9_000_000:])
    assert push() < 3_000_000
    assert sent(second("pull", "data:1", cwd=world.tree).out) < 3_000_000
    same(first, second)
    second("fsck")
    world.verify()
    world.machine("verifier")("repo", "gc", "here", "--grace", "0", cwd=world.tree)
    world.verify()
    third = world.machine("third")
    third("pull", "data:1", cwd=world.tree)
    same(first, third)


def sent(text: str) -> int:
    """The bytes that a line of push or pull says."""
    number, unit = text.partition(" sent to" if " sent to" in text else " received")[0].split()[-2:]
    return int(float(number) * {"B": 1, "kB": 1000, "MB": 10**6}[unit])


def same(one: Program, other: Program) -> None:
    images = [json.loads(it("inspect", "data:1").out)[0] for it in (one, other)]
    assert images[0] == images[1]


def test_an_image_with_a_wrong_chunk_is_not_taken(
    world: World, busybox_base: Path, context: Callable[..., Path]
) -> None:
    first = world.machine("first")
    place = context(f"FROM tar:{busybox_base}\n")
    first("build", place, "-t", "data:1", "-q")
    first("push", "data:1", cwd=world.tree)
    world.trust(first)
    (pack,) = [path for path in world.repository.glob("blobs/*/*") if path.stat().st_size > 100_000]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    second = world.machine("second")
    failed = second("pull", "data:1", status=5, cwd=world.tree)
    assert "[repository." in failed.err
    assert second("images", "-q").out == ""
    assert "data:1" not in second("images").out
    refused = second("pull", "absent:1", status=5, cwd=world.tree)
    assert "[repository.unknown]" in refused.err


@pytest.fixture
def noise(world: World, busybox_base: Path, context: Callable[..., Path]) -> Program:
    """A machine that pushed the image `data:1` of 20 MB that don't compress."""
    first = world.machine("first")
    files: dict[str, str | bytes] = {
        f"files/{number}": random.Random(number).randbytes(400_000) for number in range(50)
    }
    place = context(f"FROM tar:{busybox_base}\nCOPY files /srv\n", files)
    first("build", place, "-t", "data:1", "-q")
    first("push", "data:1", cwd=world.tree)
    world.trust(first)
    return first


def test_a_download_that_is_killed_leaves_the_store_whole(world: World, noise: Program) -> None:
    luck = random.Random(7)
    whole = world.machine("third")("pull", "data:1", cwd=world.tree).seconds
    second = world.machine("second")
    for _ in range(5):
        with second.start("pull", "data:1", cwd=world.tree) as process:
            time.sleep(luck.uniform(0.3, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        second("fsck")
    second("pull", "data:1", cwd=world.tree)
    same(noise, second)
    second("fsck")


@pytest.mark.usefixtures("noise")
def test_no_space_at_this_side_is_a_clear_error(world: World) -> None:
    second = world.machine("second")
    second.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", second.home], check=True)
    try:
        failed = second("pull", "data:1", status=None, cwd=world.tree)
        assert failed.status in (4, 5)
        assert "no-space]" in failed.err
        assert "data:1" not in second("images").out
        second("fsck")
    finally:
        subprocess.run(["umount", second.home], check=True)


@pytest.mark.ordinary_user
def test_an_ordinary_user_pulls_what_root_pushed(world: World, noise: Program, ordinary_home: Path) -> None:
    """The same tree, owners and modes too, through a user namespace."""
    place = ordinary_home.parent / "tree"
    shutil.copytree(world.repository, place / "repository")
    configuration = f"{{name: here, type: directory, path: {place}/repository, keys: ['{world.keys}']}}"
    (place / ".boxwright-config.yaml").write_text(f"repository: {configuration}\n")
    subprocess.run(["chown", "-R", ORDINARY_USER, place], check=True)
    user = Program(ordinary_home, user=ORDINARY_USER)
    user("pull", "data:1", cwd=place)
    same(noise, user)
    user("fsck")
    user("push", "data:1", cwd=place)
