"""What tests of containers share."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwright.engines.building.choose import open_engine
from tests.conftest import ROOT, Program, Result, bootstrap_tar, remove_tree

TOOL_RECIPE = """\
FROM tar:{base}
RUN mkdir -p /srv/data /empty && echo one > /srv/data/a && ln /srv/data/a /srv/data/b && chmod 4755 /bin/busybox
RUN ln -s busybox /bin/httpd && ln -s busybox /bin/kill  && ln -s busybox /bin/ps \
    && ln -s busybox /bin/sync && ln -s busybox /bin/hostname && ln -s busybox /bin/tty && ln -s busybox /bin/wc \
    && ln -s busybox /bin/stty
RUN echo page > /srv/index.html
ENV COLOUR=blue
LABEL purpose=test
PORT {port}:80
"""

Run = Callable[..., Result]
Tree = Callable[..., Path]
Base = Callable[..., Program]
SYSTEM = ("--build-arg", "BASE=debian:bookworm/system")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


def tool(program: Program, place: Path, base: Path) -> Iterator[Program]:
    """The program with the image `tool`; its containers are removed at the end."""
    place.mkdir(exist_ok=True)
    if not (place / "Recipe").exists():
        (place / "base.tar").write_bytes(base.read_bytes())
        (place / "Recipe").write_text(TOOL_RECIPE.format(base=place / "base.tar", port=free_port()))
    program("build", place, "-q", "-t", "tool", "--network", "none")
    yield program
    for name in program("ps", "-aq").out.split():
        program("rm", "-f", name)


@pytest.fixture(scope="session")
def tool_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for tests of containers alone."""
    home = tmp_path_factory.mktemp("run") / "store"
    yield home
    remove_tree(home.parent)


@pytest.fixture
def boxes(tool_home: Path, busybox_base: Path) -> Iterator[Program]:
    yield from tool(Program(tool_home), tool_home.parent / "recipe", busybox_base)


@pytest.fixture
def ordinary_boxes(ordinary_boxwright: Program, busybox_base: Path) -> Iterator[Program]:
    yield from tool(ordinary_boxwright, ordinary_boxwright.home.parent / "tool", busybox_base)


@pytest.fixture(
    params=["boxes", pytest.param("ordinary_boxes", marks=pytest.mark.ordinary_user)], ids=["root", "ordinary"]
)
def either(request: pytest.FixtureRequest) -> Program:
    """As root, and as an ordinary user."""
    program: Program = request.getfixturevalue(request.param)
    return program


@pytest.fixture
def run(boxes: Program) -> Run:
    """`boxwright run --rm --network none` with these words."""

    def call(*words: str | Path, status: int | None = 0, stdin: str | None = None) -> Result:
        return boxes("run", "--rm", "--network", "none", *words, status=status, stdin=stdin)

    return call


# Bundles -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(boxwright: Program) -> Base:
    """Build a base image (once): `base("static")`; `base("php", system=True)` is ``base/php-system``."""

    def make(target: str, *, system: bool = False) -> Program:
        name, more = (f"base/{target}-system", SYSTEM) if system else (f"base/{target}", ())
        boxwright("build", ROOT / "images/base", "-q", "--target", target, "-t", name, *more, timeout=600)
        return boxwright

    return make


# Packages ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiler's root file system, so that each store has it in seconds."""
    place = tmp_path_factory.mktemp("toolchain") / "toolchain.tar"
    archive = bootstrap_tar(place, "gcc", "libc6-dev", "make", "patch")
    archive.chmod(0o644)
    for parent in (archive.parent, archive.parent.parent, archive.parent.parent.parent):
        parent.chmod(0o755)
    return archive


@pytest.fixture
def tree(tmp_path: Path, toolchain: Path) -> Tree:
    """Make a package tree: `tree(hi=FILES)`; every definition gets the toolchain."""

    def make(name: str = "tree", **packages: dict[str, str] | str) -> Path:
        for package, files in packages.items():
            directory = tmp_path / name / "packages/demo" / package.replace("_", "-")
            for path, text in ({"pkg.yaml": files} if isinstance(files, str) else files).items():
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                given = text if path != "pkg.yaml" or "toolchain" in text else f"{text}\ntoolchain: tar:{toolchain}\n"
                (directory / path).write_text(given)
        return tmp_path / name / "packages/demo"

    return make


@pytest.fixture(scope="session")
def package_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("package-store")


@pytest.fixture
def pkg(package_home: Path) -> Program:
    """The program with a store in which the toolchain is unpacked once."""
    return Program(package_home)


@pytest.fixture
def forgetting() -> Iterator[Callable[[str, Program], None]]:
    """What builds leave with an engine is removed."""
    before: dict[str, set[str]] = {}
    homes: dict[str, Path] = {}

    def begin(name: str, program: Program) -> None:
        if name == "native":
            return  # what it leaves is in the test's own store
        homes[name] = program.home / "engines"
        opened = open_engine(name, "", os.environ, str(homes[name]))
        before[name] = opened.states()
        opened.close()

    yield begin
    for name, states in before.items():
        opened = open_engine(name, "", os.environ, str(homes[name]))
        opened.forget(opened.states() - states)
        assert opened.sweep() == 0
        opened.close()
