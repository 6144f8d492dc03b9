"""Servers of the Remote Execution API, and what is built there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.casd import Casd, buildbox
from tests.conftest import Program, remove_tree
from tests.grpcproxy import FaultProxy

TOOLS = "cat chmod cp dirname env find head id ln mkdir rm sed sleep sort tar touch"
HOST = "cat /proc/sys/kernel/hostname"  # boxwright's sandbox and buildbox's have different ones
HERE, THERE = "boxwright", "buildbox"
LIBRARY = "mkdir -p $DESTDIR/usr/lib && echo library > $DESTDIR/usr/lib/words && ln -s words $DESTDIR/usr/lib/link"
COPY = "cp -P /usr/lib/link /usr/lib/words $DESTDIR/usr/bin/"
USER = f"{HOST}; mkdir -p $DESTDIR/usr/bin && {COPY} && id -u > $DESTDIR/usr/bin/id"

T = TypeVar("T")
Tree = Callable[..., Path]
Farm = Callable[..., None]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return buildbox(tmp_path_factory.mktemp("buildbox"))


@pytest.fixture(scope="session")
def small_toolchain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell, GNU tar and what an action needs beside: a few megabytes of this machine's own programs."""
    place = tmp_path_factory.mktemp("small-toolchain")
    root = place / "root"
    for name in ("bin", "etc", "usr/bin", "usr/lib"):
        (root / name).mkdir(parents=True)
    copied: set[str] = set()
    for name in ("sh", *TOOLS.split()):
        program = os.path.realpath(shutil.which(name) or name)
        shutil.copy(program, root / "bin" / name)
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        copied |= {word for word in libraries.split() if word.startswith("/")}
    for library in copied:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    archive = place / "small.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", archive, "."], check=True)
    return archive


@pytest.fixture
def tree(tmp_path: Path, small_toolchain: Path) -> Tree:
    """Make a package tree: `tree(name=SCRIPT)`, with more lines of its definition `tree(name=(SCRIPT, LINES))`."""

    def make(**packages: str | tuple[str, str]) -> Path:
        for name, given in packages.items():
            script, more = (given, "") if isinstance(given, str) else given
            directory = tmp_path / "tree/packages/demo" / name
            directory.mkdir(parents=True, exist_ok=True)
            lines = [f"name: {name}", "version: 1.0", f"toolchain: tar:{small_toolchain}", "strip: false", more]
            lines += ["phases:", "  install: |", *(f"    {line}" for line in script.splitlines())]
            (directory / "pkg.yaml").write_text("\n".join(lines) + "\n")
        (tmp_path / "tree/.git").touch()
        return tmp_path / "tree/packages/demo"

    return make


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """Write the configuration: `farm(URL)` for a server that does everything, with further keys."""

    def write(url: str, **keys: object) -> None:
        given: dict[str, object] = {"type": "reapi", "name": "farm", "cas": url, "execution": url, "time-limit": 5}
        given |= {name.replace("_", "-"): value for name, value in keys.items()}
        lines = [
            f"    {name}: {'[' + ', '.join(v) + ']' if isinstance(v, list) else v}" for name, v in given.items() if v
        ]
        text = "repositories:\n  -\n" + "\n".join(lines) + "\n"
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree/.boxwright-config.yaml").write_text(text)

    return write


@pytest.fixture(scope="session")
def casd(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Casd]:
    """A server of the whole session; it keeps failures, as it does unless it is told not to."""
    server = Casd(programs, tmp_path_factory.mktemp("casd") / "hub")
    yield server
    server.close()


@pytest.fixture
def proxy(casd: Casd) -> Iterator[FaultProxy]:
    found = FaultProxy(casd.url)
    yield found
    found.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """The program with an empty store of that name."""
    yield lambda name: Program(tmp_path / "stores" / name)
    remove_tree(tmp_path / "stores")


@pytest.fixture
def nothing_here(tmp_path: Path) -> Callable[[Program], Program]:
    """The program where no action can be run: whatever it has then, it has from elsewhere."""
    directory = tmp_path / "no-bwrap"
    directory.mkdir()
    (directory / "bwrap").write_text("#!/bin/sh\necho this machine builds nothing >&2\nexit 99\n")
    (directory / "bwrap").chmod(0o755)
    return lambda program: program.with_environment(PATH=f"{directory}:{os.environ['PATH']}")


def salted(script: str) -> str:
    """A script that no server has seen."""
    return f": {os.urandom(8).hex()}\n{script}"


def wait_for(condition: Callable[[], T], seconds: float = 30) -> T:
    """What it returns once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)
    return found


def built(program: Program) -> dict[str, tuple[str, str, str]]:
    """By package: content key, definition key and the digest of its archive."""
    with sqlite3.connect(program.home / "index.db") as db:
        rows = db.execute("SELECT name, key, definition, archive FROM packages").fetchall()
    return {name: (key, definition, archive) for name, key, definition, archive in rows}


def build(program: Program, package: Path, *options: str, status: int = 0) -> str:
    """Build a package; returns everything that was said."""
    result = program("build", package, "--progress", "plain", *options, status=status)
    print(result)  # noqa: T201 - shown where the test fails
    return result.out + result.err
