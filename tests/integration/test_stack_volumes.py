"""Snapshots and backups of the volumes of stacks, on each engine of one machine."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, Result

pytestmark = pytest.mark.integration

RECIPE = """\
FROM tar:{base}
COPY start /bin/start
CMD ["/bin/start"]
"""
START = """\
#!/bin/sh
trap 'exit 0' TERM
while :; do busybox sleep 1 & wait; done
"""
STACK = """\
name: {name}
containers:
  db: {{build: ., volumes: ["data:/srv/data"], stop-grace: 1s}}
volumes:
  data: {{replicate: {replicate}, snapshots: {{every: 1s, keep: 2}}}}
networks: {{inner: {{internal: true}}}}
cluster: {{engine: {engine}}}
"""
ENGINES = [
    "native",
    *(pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "docker", "lxc", "lxd")),
]


class Place:
    """A deployed stack."""

    def __init__(self, program: Program, directory: Path, engine: str) -> None:
        self.program = program
        self.directory = directory
        self.engine = engine
        self.name = f"v{os.getpid()}{time.monotonic_ns() % 10000}"
        self.write()

    def write(self, replicate: int = 1) -> None:
        text = STACK.format(name=self.name, engine=self.engine, replicate=replicate)
        (self.directory / "autopilot.yaml").write_text(text)

    def __call__(self, *words: str | Path, status: int | None = 0, stdin: str | None = None) -> Result:
        return self.program(*words, cwd=self.directory, status=status, stdin=stdin)

    def shell(self, script: str) -> str:
        return str(self("exec", "/db", "busybox", "sh", "-c", script).out)

    def volume(self) -> dict[str, object]:
        found: list[dict[str, object]] = json.loads(self("volume", "ls", ".", "--json").out)
        assert [it["name"] for it in found] == ["data"]
        return found[0]


def deployed(program: Program, directory: Path, base: Path, engine: str) -> Iterator[Place]:
    directory.mkdir(exist_ok=True)
    (directory / "Recipe").write_text(RECIPE.format(base=base))
    (directory / "start").write_text(START)
    (directory / "start").chmod(0o755)
    place = Place(program, directory, engine)
    try:
        place("deploy")
        yield place
    finally:
        place("destroy", "--yes", "--volumes", status=None)


@pytest.fixture(params=ENGINES)
def place(boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from deployed(boxwright, tmp_path / "stack", busybox_base, str(request.param))


@pytest.fixture
def ordinary_place(ordinary_boxwright: Program, busybox_base: Path) -> Iterator[Place]:
    base = ordinary_boxwright.home.parent / "volumes-base.tar"
    base.write_bytes(busybox_base.read_bytes())
    directory = ordinary_boxwright.home.parent / "volumes"
    directory.mkdir()
    shutil.chown(directory, ordinary_boxwright.user)
    yield from deployed(ordinary_boxwright, directory, base, "native")


def go_through(place: Place) -> None:
    """A snapshot, a change, back again; a backup, a change, back again."""
    place.shell("cd /srv/data; echo one > a; ln a b; ln -s a c; chown 7:8 a; chmod 640 a; mkdir d")
    assert place("volume", "snapshot", "/data", "first").out == "data  first\n"
    assert "[volume.exists]" in place("volume", "snapshot", "/data", "first", status=1).err
    place.shell("cd /srv/data; echo two > a; rm -r d; echo more > e")
    backup = place.directory / "kept"
    assert str(backup) in place("volume", "backup", "/data", backup).out
    assert backup.stat().st_mode & 0o777 == 0o600
    assert place.volume()["snapshots"] == ["first"]
    assert "[usage.confirm]" in place("volume", "restore", "/data", "first", status=2).err
    place("volume", "restore", "--yes", "/data", "first")
    seen = place.shell("cd /srv/data; cat a; busybox stat -c '%u %g %a %h' a; readlink c; ls")
    assert seen == "one\n7 8 640 2\na\na\nb\nc\nd\n"
    place("volume", "restore", "--yes", "/data", "--file", backup)
    assert (
        place.shell("cd /srv/data; cat a e; busybox stat -c '%u %g %a %h' a; ls")
        == "two\nmore\n7 8 640 2\na\nb\nc\ne\n"
    )


def test_a_volume_goes_back_to_a_snapshot_and_to_a_backup(place: Place) -> None:
    go_through(place)
    (place.directory / "bad").write_bytes(b"this is no backup\n" * 1000)
    assert (
        "[volume.backup]" in place("volume", "restore", "-y", "/data", "--file", place.directory / "bad", status=1).err
    )
    assert place.shell("cat /srv/data/a") == "two\n", "what was there is there, and is mounted by what runs"
    refusals: tuple[tuple[int, str, tuple[str, ...]], ...] = (
        (1, "volume.unknown", ("snapshot", "/nothing")),
        (1, "volume.no-snapshot", ("restore", "-y", "/data", "second")),
        (1, "volume.no-snapshot", ("delete-snapshot", "/data", "second")),
        (1, "volume.no-copies", ("copy", "/data")),
        (2, "usage.volume", ("snapshot", "/data", "../out")),
        (2, "usage.snapshot", ("restore", "-y", "/data")),
        (2, "usage.file", ("restore", "-y", "/data", "--file", "/nowhere/at/all")),
    )
    for status, code, words in refusals:
        assert f"[{code}]" in place("volume", *words, status=status).err
    assert place("deploy").out == f"{place.name}: nothing to do\n"
    place("watch", "--once")
    time.sleep(1.1)
    place("watch", "--once")
    time.sleep(1.1)
    place("watch", "--once")
    taken = place.volume()["snapshots"]
    assert isinstance(taken, list)
    assert [it.startswith("auto-") for it in taken].count(True) == 2, "the newest two that were taken by schedule"
    if place.engine == "lxd":
        return  # a volume made of a backup has no older snapshots
    assert "first" in taken
    place("volume", "delete-snapshot", "/data", "first")
    assert "first" not in str(place.volume()["snapshots"])


@pytest.mark.long
@pytest.mark.ordinary_user
def test_an_ordinary_user_has_snapshots_and_backups_too(ordinary_place: Place) -> None:
    go_through(ordinary_place)


def test_what_one_host_can_not_do_is_named_before_anything_changes(
    boxwright: Program, tmp_path: Path, busybox_base: Path
) -> None:
    for place in deployed(boxwright, tmp_path, busybox_base, "native"):
        place.write(replicate=2)
        said = place("deploy", "--plan").err
        assert "volume data: copies need other members" in said
        place("deploy")
        assert place("deploy").out == f"{place.name}: nothing to do\n"
        assert "[volume.no-copies]" in place("volume", "copy", "/data", status=1).err
        assert (
            "[usage.take-over]" in place("watch", "--once", "--stop-after", "9", "--take-over-after", "9", status=2).err
        )


def test_a_backup_that_names_paths_outside_leaves_them_alone(
    boxwright: Program, tmp_path: Path, busybox_base: Path
) -> None:
    """An archive from elsewhere: with `..`, with an absolute path, through a link that leads out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        for name in ("out/one", "../../../../../../../../../.." + str(outside / "two"), str(outside / "three")):
            archive.addfile(tarfile.TarInfo(name))
    for place in deployed(boxwright, tmp_path / "stack", busybox_base, "native"):
        place.shell("echo kept > /srv/data/a")
        place("volume", "restore", "-y", "/data", "--file", bad, status=None)
        assert list(outside.iterdir()) == []
