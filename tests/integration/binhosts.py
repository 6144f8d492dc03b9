"""Binary hosts for tests: a tree of definitions, machines with stores of their own, and every kind of place."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program, remove_tree
from tests.integration import registries
from tests.integration.conftest import free_port, until
from tests.integration.hosttoolchain import make_toolchain
from tests.integration.servers import listens, prepare_ssh, start_s3

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
        self.name = "here"
        self.server: subprocess.Popen[Any] | None = None
        self.restart: Callable[[], None] = lambda: None

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

    def stop(self) -> None:
        """End the server."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(10)

    def kill(self) -> None:
        """End the server, and whatever serves for it, as the machine's end would."""
        assert self.server is not None
        found = [self.server.pid]
        for pid in found:
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.communicate(timeout=10)

    def move(self) -> None:
        """From now on the repository is another one, which is empty."""
        for path in self.repository.iterdir() if self.repository.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for kind, top in (("s3", "bucket/"), ("oci", "/boxes/")):
            if f"type: {kind}" in self.configuration:
                self.configuration = self.configuration.replace(top, f"{top}more/")
                self.configure()

    def verify(self) -> None:
        found = self.machine("verifier")("repo", "verify", self.name, cwd=self.tree)
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
    port = free_port()

    def start() -> None:
        program = Program(world.path / "serve/store")
        world.server = program.start("serve", world.repository, "--port", str(port))
        until(lambda: listens(port))

    world.restart = start
    start()
    world.configuration = (
        f"{{name: here, upload-type: directory, upload-path: {world.repository},"
        f" download-type: http, download-path: '127.0.0.1:{port}', time-limit: 5}}"
    )
    yield
    if world.server is not None:
        world.server.send_signal(signal.SIGINT)
        world.server.communicate(timeout=10)


@pytest.fixture
def ssh(world: World) -> Iterator[None]:
    """Written over a real sshd of this test's own, by a user's own configuration, read from busybox's web server."""
    world.name = "mysuperbinhost"
    world.repository.mkdir(exist_ok=True)
    server = prepare_ssh(world.path / "ssh", world.name)
    world.environment |= server.environment

    def start() -> None:
        world.server = server.start()

    world.restart = start
    page = free_port()
    web = subprocess.Popen(["busybox", "httpd", "-f", "-p", f"127.0.0.1:{page}", "-h", world.repository])
    try:
        start()
        until(lambda: listens(page))
        world.configuration = (
            f"{{name: mysuperbinhost, upload-type: ssh, upload-path: mysuperbinhost{world.repository},"
            f" download-type: http, download-path: '127.0.0.1:{page}', time-limit: 5}}"
        )
        yield
    finally:
        web.terminate()
        web.wait(10)
        world.stop()


@pytest.fixture
def s3(world: World) -> Iterator[None]:
    """A bucket of moto's server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def start() -> None:
        world.server = start_s3(port, os.environ)

    world.restart = start
    try:
        start()
        world.environment |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        world.configuration = f"{{name: here, type: s3, path: bucket/deep/prefix, endpoint: '{address}'}}"
        yield
    finally:
        world.stop()


@pytest.fixture
def oci(world: World) -> Iterator[None]:
    """A repository of Debian's docker-registry."""
    with ExitStack() as stack:
        port = free_port()

        def start() -> None:
            registry = stack.enter_context(registries.serving(world.path / "registry", port=port))
            world.server = registry.process

        world.restart = start
        start()
        world.configuration = f"{{name: here, type: oci, path: '127.0.0.1:{port}/boxes/main', time-limit: 5}}"
        yield


SSH = pytest.param("ssh", marks=pytest.mark.engine("ssh"))


def long(place: Any) -> Any:
    """A case of `make long`."""
    given = place if hasattr(place, "values") else pytest.param(place)
    return pytest.param(*given.values, marks=[*given.marks, pytest.mark.long])


def sent(text: str) -> int:
    """The bytes that a line of push or pull says."""
    number, unit = text.partition(" sent to" if " sent to" in text else " received")[0].split()[-2:]
    return int(float(number) * {"B": 1, "kB": 1000, "MB": 10**6}[unit])


def same(one: Program, other: Program) -> None:
    """Both have the same image `data:1`."""
    images = [json.loads(it("inspect", "data:1").out)[0] for it in (one, other)]
    assert images[0] == images[1]


def noisy(world: World, base: Path, context: Callable[..., Path]) -> Program:
    """A machine that has the image `data:1` of 20 MB that don't compress, and is trusted."""
    first = world.machine("first")
    files: dict[str, str | bytes] = {
        f"files/{number}": random.Random(number).randbytes(400_000) for number in range(50)
    }
    place = context(f"FROM tar:{base}\nCOPY files /srv\n", files)
    first("build", place, "-t", "data:1", "-q")
    first("repo", "key")
    world.trust(first)
    return first
