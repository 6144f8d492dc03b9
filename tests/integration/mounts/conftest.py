"""Builds below a base with links that lead astray, as root and as an ordinary user."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import APPLETS, ORDINARY_USER, Program, remove_tree

SECRET = "correct-horse-battery-staple"
MORE = [*APPLETS, "cp", "cut", "grep", "head", "hostname", "mknod", "mount", "mv", "rmdir", "sort", "tr", "wc"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox, with links that lead astray."""
    root = tmp_path_factory.mktemp("mounts-base") / "root"
    for name in ("bin", "etc", "tmp", "proc", "dev", "sys", "cache"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in MORE:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1001:\n")
    (root / "link").symlink_to("/cache")
    (root / "up").symlink_to("../../../../../../cache/up")
    (root / "astray").symlink_to("/proc/self/cwd")
    (root / "fd").symlink_to("/proc/self/fd")
    (root / "into-proc").symlink_to("/proc/sys")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("a file")
    archive = root.parent / "base.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "--mtime=@1000000", "-C", root, "-cf", archive, "."], check=True)
    return archive


class Build:
    """Builds below one base; `tree` is what an exported image holds."""

    def __init__(self, program: Program, place: Path, base: Path) -> None:
        self.program = program
        self.place = place
        self.base = base
        self.number = 0

    def context(self, recipe: str, files: Mapping[str, str] | None = None) -> Path:
        self.number += 1
        directory = self.place / f"context-{self.number}"
        directory.mkdir(parents=True)
        for name, text in {"Recipe": f"FROM tar:{self.base}\n{recipe}", **(files or {})}.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        if self.program.user:
            subprocess.run(["chown", "-R", f"{self.program.user}:", directory], check=True)
        return directory

    def run(self, context: Path, *options: str | Path, status: int | None = 0) -> str:
        result = self.program("build", context, "--network", "none", "--progress", "plain", *options, status=status)
        return result.out + result.err

    def says(
        self, recipe: str, *options: str | Path, files: Mapping[str, str] | None = None, status: int | None = 0
    ) -> str:
        return self.run(self.context(recipe, files), *options, status=status)

    def tree(self, context: Path, *options: str | Path) -> dict[str, tarfile.TarInfo]:
        out = context.parent / f"{context.name}.tar"
        self.run(context, "-o", f"tar:{out}", *options)
        with tarfile.open(out) as tar:
            return {member.name.removeprefix("./"): member for member in tar}


@pytest.fixture
def build(fresh_boxwright: Program, tmp_path: Path, base: Path) -> Build:
    return Build(fresh_boxwright, tmp_path, base)


@pytest.fixture
def ordinary_build(ordinary_home: Path, base: Path) -> Iterator[Build]:
    place = ordinary_home.parent / "mounts"
    place.mkdir()
    shutil.copy(base, place / "base.tar")
    shutil.chown(place, ORDINARY_USER, ORDINARY_USER)
    yield Build(Program(place / "store", user=ORDINARY_USER), place, place / "base.tar")
    remove_tree(place)


both = pytest.mark.parametrize(
    "who", ["build", pytest.param("ordinary_build", marks=pytest.mark.ordinary_user)], ids=["root", "ordinary"]
)


@pytest.fixture
def builder(who: str, request: pytest.FixtureRequest) -> Build:
    found = request.getfixturevalue(who)
    assert isinstance(found, Build)
    return found
