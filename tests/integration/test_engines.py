"""Build engines: one contract for docker, podman, LXC and LXD."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.engines.building.choose import NAMES, open_engine
from boxwright.engines.building.lxd import COPY_ON_WRITE, LxdContainer, LxdEngine
from boxwright.engines.building.lxdsnapshots import Snapshotting
from boxwright.engines.building.pause import PATH, pause_program
from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.errors import BoxwrightError
from boxwright.ports import Bind, BuildContainer, BuildEngine, ContainerShape, EngineCommand, SeenPath, Tmpfs
from boxwright.steps.onengine import resolved
from tests.conftest import ROOT, Program

pytestmark = pytest.mark.integration

ENGINES = [pytest.param(name, marks=pytest.mark.engine(name)) for name in NAMES]
LXD_LONG = [pytest.mark.engine("lxd"), pytest.mark.long]
SHELL = (("PATH", "/bin"),)


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BuildEngine]:
    """A real engine; what a test leaves with it is removed, and it keeps no copy of what was handed over."""
    copies = set(Path("/var/tmp").iterdir())
    opened = open_engine(request.param, "", os.environ, str(tmp_path / "engines"))
    try:
        yield opened
    finally:
        opened.forget({state for state in opened.states() if state.startswith(f"test-{os.getpid()}-")})
        opened.close()
    assert set(Path("/var/tmp").iterdir()) <= copies


each_engine = pytest.mark.parametrize("engine", ENGINES, indirect=True)


def engine_tar(base: Path, directory: Path) -> str:
    """A base with the process that waits in it."""
    path = directory / "engine.tar"
    shutil.copy(base, path)
    with tarfile.open(path, "a") as archive:
        program = pause_program(platform.machine())
        entry = tarfile.TarInfo(PATH)
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
        link = tarfile.TarInfo("sbin")
        link.type, link.linkname = tarfile.SYMTYPE, "bin"
        archive.addfile(link)
    return str(path)


def ran(container: BuildContainer, script: str, *, cwd: str = "/", user: str = "", **env: str) -> tuple[int, str]:
    said = bytearray()
    command = EngineCommand(("sh", "-c", script), (*SHELL, *env.items()), cwd, user)
    status = container.execute(command, said.extend, lambda: False)
    return status, said.decode()


@pytest.fixture
def container(engine: BuildEngine, busybox_base: Path, tmp_path: Path) -> Iterator[BuildContainer]:
    state = f"test-{os.getpid()}-base"
    engine.load(state, engine_tar(busybox_base, tmp_path))
    made = engine.start(state, ContainerShape("none"))
    try:
        yield made
    finally:
        made.remove()


def _write_files(path: Path) -> None:
    """/opt, /opt/f and /opt/l, of an owner that nobody has."""
    with tarfile.open(path, "w") as archive:
        for name, kind, mode in (
            ("opt", tarfile.DIRTYPE, 0o750),
            ("opt/f", tarfile.REGTYPE, 0o640),
            ("opt/l", tarfile.SYMTYPE, 0o777),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, mode, 5, 6
            entry.linkname = "f" if kind == tarfile.SYMTYPE else ""
            entry.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"data"))


@each_engine
def test_the_contract(engine: BuildEngine, container: BuildContainer, tmp_path: Path) -> None:
    # Commands have an environment, a directory, a user, output and a status.
    assert ran(
        container, 'echo "$X $PWD $(id -u) $(id -g)"; echo wrong >&2; exit 7', cwd="/etc", user="app", X="a b"
    ) in [
        (7, "a b /etc 1000 1001\nwrong\n"),
        (7, "wrong\na b /etc 1000 1001\n"),
    ]
    assert ran(container, "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done") == (
        0,
        "0123456789\n" * 20000,
    )
    assert ran(container, "exec nowhere")[0] == 127
    assert ran(container, "kill -9 $$")[0] == 137
    # Files are seen and laid without a program inside.
    seen = container.look("/sbin")
    assert seen is not None
    assert (seen.kind, resolved(container, "/sbin/x")) == ("symlink", "/bin/x")
    assert container.look("/etc") == SeenPath("directory")
    assert container.look("/etc/passwd") == SeenPath("file")
    assert container.look("/nothing/there") is None
    assert (container.read("/etc/group") or b"").startswith(b"root:x:0:")
    assert container.read("/etc") is None
    _write_files(tmp_path / "files.tar")
    container.put(str(tmp_path / "files.tar"))
    assert ran(container, "stat -c '%a %u %g' /opt /opt/f; cat /opt/l") == (0, "750 5 6\n640 5 6\ndata")
    # A state is what was committed, whatever comes after; others start from it.
    state = f"test-{os.getpid()}-one"
    assert ran(container, "echo kept >/kept; rm /opt/l")[0] == 0
    container.commit(state)
    assert ran(container, "echo later >/later")[0] == 0
    assert state in engine.states()
    other = engine.start(state, ContainerShape("none"))
    try:
        assert ran(other, "cat /kept; ls /later /opt/l 2>/dev/null; ls /opt") == (0, "kept\nf\n")
    finally:
        other.remove()
    # The tree comes out with owners and modes.
    prefix = engine.fetch(state, str(tmp_path / "out.tar"))
    with tarfile.open(tmp_path / "out.tar") as archive:
        found = {os.path.normpath(it.name): it for it in archive}
    member = found[os.path.normpath(f"{prefix}opt/f")]
    assert (member.mode & 0o7777, member.uid, member.gid) == (0o640, 5, 6)
    assert os.path.normpath(f"{prefix}later") not in found
    engine.forget({state})
    assert state not in engine.states()


@pytest.mark.long
@pytest.mark.parametrize("engine", [pytest.param("lxc", marks=pytest.mark.engine("lxc"))], indirect=True)
def test_states_on_states_are_more_than_one_mount_can_name(
    engine: BuildEngine, busybox_base: Path, tmp_path: Path
) -> None:
    """As where somebody adds a step to a manifest, builds it, and adds another: mount(2) takes a page of options."""
    name = f"test-{os.getpid()}-" + "x" * 60
    engine.load(f"{name}-0", engine_tar(busybox_base, tmp_path))
    for number in range(40):
        container = engine.start(f"{name}-{number}", ContainerShape("none"))
        try:
            script = f"echo {number} >/all{number}; echo {number} >/last; rm -f /all{number - 2}"
            assert ran(container, script) == (0, "")
            container.commit(f"{name}-{number + 1}")
        finally:
            container.remove()
    engine.fetch(f"{name}-40", str(tmp_path / "out.tar"))
    with tarfile.open(tmp_path / "out.tar") as archive:
        found = {os.path.normpath(it.name) for it in archive}
    assert {it for it in found if it.startswith("all")} == {"all38", "all39"}


@pytest.mark.parametrize("engine", [pytest.param("lxd", marks=pytest.mark.engine("lxd"))], indirect=True)
@pytest.mark.usefixtures("engine")
def test_a_state_that_could_not_be_kept_is_no_status_of_the_next_command(container: BuildContainer) -> None:
    # LXD makes the snapshot while the next command is prepared.
    state = f"test-{os.getpid()}-twice"
    container.commit(state)
    with pytest.raises(BoxwrightError) as caught:  # noqa: PT012 - sooner or later
        container.commit(state)
        ran(container, "true")
    assert caught.value.code == "lxd.exists"


@pytest.fixture
def btrfs_engine() -> Iterator[LxdEngine]:
    """LXD with a pool that copies on write, which a test machine's own does not."""
    pool = f"boxwright-test-{os.getpid()}"
    endpoint = find_endpoint("", os.environ)
    with LxdClient(endpoint) as client:
        client.run("POST", "/storage-pools", {"name": pool, "driver": "btrfs", "config": {"size": str(1 << 30)}})
        opened = LxdEngine(endpoint, pool)
        try:
            yield opened
        finally:
            opened.forget({state for state in opened.states() if state.startswith(f"test-{os.getpid()}-")})
            opened.close()
            client.run("DELETE", f"/storage-pools/{pool}")


@pytest.mark.engine("lxd")
@pytest.mark.usefixtures("btrfs_engine")
def test_doctor_says_which_pools_copy(boxwright: Program) -> None:
    pools = {it["name"]: it for it in json.loads(boxwright("doctor", "--json", status=None).out)}
    with LxdClient(find_endpoint("", os.environ)) as client:
        drivers = {it["name"]: it["driver"] for it in client.get("/storage-pools", recursion="1")}
    assert "btrfs" in drivers.values()
    for name, driver in drivers.items():
        found = pools[f"lxd pool {name}"]
        assert (found["ok"], "copies" in found["seen"]) == (driver in COPY_ON_WRITE, driver not in COPY_ON_WRITE)


@pytest.mark.engine("lxd")
def test_a_state_is_what_was_there_although_the_next_command_began(
    btrfs_engine: LxdEngine, busybox_base: Path, tmp_path: Path
) -> None:
    """The next command begins as soon as the tree was taken, while LXD still writes down that it was."""
    base = f"test-{os.getpid()}-base"
    btrfs_engine.load(base, engine_tar(busybox_base, tmp_path))
    made = btrfs_engine.start(base, ContainerShape("none"))
    assert isinstance(made, LxdContainer)
    try:
        for number in range(6):
            assert ran(made, f"echo {number} >/f; mkdir -p /deep/{number}")[0] == 0
            made.commit(f"test-{os.getpid()}-{number}")
            assert ran(made, "echo later >/f; rm -r /deep")[0] == 0
        assert btrfs_engine.snapshot_places is not None
        places = [btrfs_engine.snapshot_places.place(made.name, f"test-{os.getpid()}-{number}") for number in range(6)]
        roots = [Path(it) / "rootfs" for it in places]
        assert [(it / "f").read_text() for it in roots] == [f"{number}\n" for number in range(6)]
        assert [os.listdir(it / "deep") for it in roots] == [[str(number)] for number in range(6)]
        # Who writes in the very moment in which it is taken changes nothing of it.
        instance = roots[0].parents[3] / "containers" / made.name
        for number in range(6, 12):
            (instance / "rootfs/f").write_text("before\n")
            path, state = f"/instances/{made.name}/snapshots", f"test-{os.getpid()}-{number}"
            place = btrfs_engine.snapshot_places.place(made.name, state)
            asked = btrfs_engine.client.request("POST", path, {"name": state, "stateful": False})
            taking = Snapshotting(btrfs_engine.client, btrfs_engine.client.operation_of(asked), path, place)
            taking.taken()
            (instance / "rootfs/f").write_text("after\n")
            taking.settle()
            assert Path(place, "rootfs/f").read_text() == "before\n"
        # What lies in a subvolume of its own is taken later: then the end of the snapshot is waited for.
        subprocess.run(["btrfs", "subvolume", "create", instance / "rootfs/inner"], check=True, capture_output=True)
        assert btrfs_engine.snapshot_places.place(made.name, "x") == ""
        made.commit(f"test-{os.getpid()}-inner")
        assert ran(made, "echo fine >/f")[0] == 0
        subprocess.run(["btrfs", "subvolume", "delete", instance / "rootfs/inner"], check=True, capture_output=True)
    finally:
        made.remove()


@each_engine
@pytest.mark.usefixtures("engine")
def test_a_command_that_nobody_wants_any_more(container: BuildContainer) -> None:
    started = threading.Event()
    command = EngineCommand(("sh", "-c", "echo begun; exec sleep 300"), SHELL)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        container.execute(command, lambda _: started.set(), started.is_set)
    assert time.monotonic() - begun < 60


@each_engine
def test_mounts(engine: BuildEngine, busybox_base: Path, tmp_path: Path) -> None:
    tools, cache = tmp_path / "tools", tmp_path / "cache"
    tools.mkdir()
    cache.mkdir()
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)  # LXD's containers are no root here
    (tools / "say").write_text("#!/bin/sh\necho said\n")
    (tools / "say").chmod(0o755)
    state = f"test-{os.getpid()}-mounts"
    engine.load(state, engine_tar(busybox_base, tmp_path))
    mounts = (Bind(str(tools), "/opt/tools"), Bind(str(cache), "/var/cache/x", read_only=False), Tmpfs("/scratch"))
    made = engine.start(state, ContainerShape("none", mounts))
    try:
        assert ran(
            made,
            "/opt/tools/say; echo x >/var/cache/x/f; echo y >/scratch/f; touch /opt/tools/n 2>/dev/null || echo no",
        ) == (
            0,
            "said\nno\n",
        )
        made.commit(f"{state}-after")
    finally:
        made.remove()
    again = engine.start(state, ContainerShape("none", mounts))
    try:
        assert ran(again, "cat /var/cache/x/f; ls /scratch") == (0, "x\n")
    finally:
        again.remove()
    assert not (tools / "n").exists()
    prefix = engine.fetch(f"{state}-after", str(tmp_path / "out.tar"))
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = {os.path.normpath(it.name) for it in archive}
    assert not names & {os.path.normpath(f"{prefix}{it}") for it in ("opt/tools/say", "var/cache/x/f", "scratch/f")}


KILLED = """
import os, signal, sys
from boxwright.engines.building.choose import open_engine
from boxwright.ports import ContainerShape
engine = open_engine(sys.argv[1], "", os.environ, sys.argv[2])
engine.start(sys.argv[3], ContainerShape("none"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@each_engine
def test_the_next_one_removes_what_a_killed_process_left(
    engine: BuildEngine, busybox_base: Path, tmp_path: Path
) -> None:
    state = f"test-{os.getpid()}-killed"
    engine.load(state, engine_tar(busybox_base, tmp_path))
    words = [sys.executable, "-c", KILLED, engine.name, str(tmp_path / "engines"), state]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert engine.sweep() >= 1
    assert engine.sweep() == 0


@each_engine
def test_a_state_that_is_not_there(engine: BuildEngine) -> None:
    with pytest.raises(BoxwrightError) as caught:
        engine.start("never-was", ContainerShape())
    assert caught.value.code.startswith(("engine.", "lxd."))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lxc"])  # it has no daemon
def test_an_engine_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(BoxwrightError) as caught:
        open_engine(name, f"unix://{tmp_path}/none", {}, str(tmp_path)).states()
    assert (caught.value.exit_status, caught.value.code.partition(".")[2]) == (3, "unreachable")
