"""An ordinary user's builds, against root's."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_USER, Program

pytestmark = [pytest.mark.integration, pytest.mark.ordinary_user]


@pytest.fixture
def shared(ordinary_home: Path, busybox_base: Path) -> Iterator[Path]:
    """A directory that both can read, with a base and a file with a capability in an archive."""
    directory = ordinary_home.parent / "shared"
    directory.mkdir(exist_ok=True)
    shutil.copy(busybox_base, directory / "base.tar")
    shutil.chown(directory, ORDINARY_USER, ORDINARY_USER)
    yield directory
    shutil.rmtree(directory)


def _recipe(directory: Path, recipe: str) -> Path:
    place = directory / "context"
    place.mkdir(exist_ok=True)
    (place / "Recipe").write_text(recipe)
    (place / "file").write_text("content")
    return place


def test_same_identity_as_root(boxwright: Program, ordinary_boxwright: Program, shared: Path, tmp_path: Path) -> None:
    place = _recipe(
        shared,
        f"FROM tar:{shared}/base.tar\nCOPY --chown=7:8 --chmod=4711 file /srv/\nWORKDIR /work\nADD caps.tar /caps/\n",
    )
    capable = tmp_path / "capable"
    capable.write_text("x")
    subprocess.run(["setcap", "cap_net_raw+ep", capable], check=True)
    archive = ["tar", "--xattrs", "--xattrs-include=*", "--owner=33", "--group=33", "-C", str(tmp_path), "-cf"]
    subprocess.run([*archive, str(place / "caps.tar"), "capable"], check=True)
    assert ordinary_boxwright("build", place, "-q").out == boxwright("build", place, "-q").out


def test_owners_of_several_users(ordinary_boxwright: Program, shared: Path) -> None:
    place = _recipe(
        shared,
        f"FROM tar:{shared}/base.tar\nRUN mkdir /a && touch /a/root && chmod 777 /a\nCOPY --chown=33:44 file /a/other\n"
        "USER app\nRUN id -u && test ! -w /a/other && echo ok > /a/mine || exit 9\n",
    )
    out = shared / "out.tar"
    ordinary_boxwright("build", place, "-q", "--network", "none", "-o", f"tar:{out}")
    with tarfile.open(out) as tar:
        owners = {member.name: (member.uid, member.gid) for member in tar}
    assert owners["a/root"] == (0, 0)
    assert owners["a/other"] == (33, 44)
    assert owners["a/mine"] == (1000, 1001)


@pytest.mark.long
def test_base_system(ordinary_boxwright: Program, shared: Path) -> None:
    place = _recipe(shared, "FROM debian:bookworm\nRUN stat -c %U:%G /etc/shadow > /owner\n")
    out = shared / "out.tar"
    ordinary_boxwright("build", place, "-q", "--network", "none", "-o", f"tar:{out}")
    with tarfile.open(out) as tar:
        file = tar.extractfile("owner")
        assert file is not None
        assert file.read() == b"root:shadow\n"


def test_no_subordinate_ids(ordinary_boxwright: Program, shared: Path) -> None:
    place = _recipe(shared, f"FROM tar:{shared}/base.tar\nRUN echo new-step\n")
    saved = Path("/etc/subuid").read_text()
    try:
        Path("/etc/subuid").write_text("")
        result = ordinary_boxwright("build", place, status=3)
    finally:
        Path("/etc/subuid").write_text(saved)
    assert "[machine.no-subuid]" in result.err
    assert "usermod" in result.err
