"""Build engines: one contract for docker, podman, LXC and LXD, and manifests that are built on each of them."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
from tests.integration.conftest import free_port, until

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
# LXD's pool of a test machine copies each state: what isn't its contract is in `make long`.
each_name_and_native = pytest.mark.parametrize("name", ["native", *ENGINES[:3], pytest.param("lxd", marks=LXD_LONG)])
each_name = pytest.mark.parametrize("name", [*ENGINES[:3], pytest.param("lxd", marks=LXD_LONG)])


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


# Manifests -----------------------------------------------------------------------------------------------------------

MANIFEST = """\
image: tar:BASE
vars: {colours: [red, blue]}
files:
  - {src: conf, dest: /etc/app, mode: "0640", owner: app}
templates:
  - {src: site.j2, dest: /sbin/site.conf}
toolbox: {src: tools, dest: /opt/tools}
install:
  - {run: [busybox, chmod, "1777", /tmp]}
{% for colour in colours %}
  - echo {{ colour }} >>/colours
{% endfor %}
  - {run: "id -u >/tmp/who; pwd >>/tmp/who; /opt/tools/say >>/tmp/who", user: app, directory: /tmp}
  - mkdir: /srv/deep/er
  - {run: "! touch /opt/tools/x 2>/dev/null", network: none}
  - {run: [busybox, rm, /etc/group]}
script:
  - {name: there, run: test -s /colours && touch /trace}
  - {name: chain, run: [echo x >/x, test -s /x]}
env: {COLOUR: "{{ colours[0] }}"}
command: [/bin/cat, /colours]
artifact: engines/test:{{ engine }}
"""


@pytest.fixture
def project(tmp_path: Path, busybox_base: Path) -> Path:
    directory = tmp_path / "project"
    files = {
        "manifest.yaml": MANIFEST.replace("BASE", str(busybox_base)),
        "conf/a": "one",
        "conf/deep/b": "two",
        "site.j2": "{{ colours }}\n",
        "tools/say": "#!/bin/sh\necho said\n",
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "tools/say").chmod(0o755)
    return directory


SMALL = """\
image: tar:BASE
install:
  - echo one >/one
  - STEP
script:
  - echo so sad; test ! -e /one
artifact: engines/test:small
"""


def small(project: Path, base: Path, step: str) -> None:
    (project / "manifest.yaml").write_text(SMALL.replace("BASE", str(base)).replace("STEP", step))


def tree_of(program: Program, place: Path, image: str) -> dict[str, tuple[object, ...]]:
    """Every path with all that it has; of directories all but the time (docs/manifests.md, "Engines")."""
    program("export", image, f"rootfs:{place}")
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(place.rglob("*")):
        seen = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        time_of = 0 if path.is_dir() and not path.is_symlink() else int(seen.st_mtime)
        found[str(path.relative_to(place))] = (oct(seen.st_mode), seen.st_uid, seen.st_gid, time_of, content)
    return found


@each_name
def test_a_manifest_gives_the_same_tree(
    boxwright: Program, fresh_boxwright: Program, name: str, project: Path, tmp_path: Path,
    forgetting: Callable[[str, Program], None],
) -> None:  # fmt: skip
    boxwright("build", project, "--set", "engine=native")
    forgetting(name, fresh_boxwright)
    done = fresh_boxwright("build", project, "--engine", name, "--set", f"engine={name}", "--junit", tmp_path / "r.xml")
    assert f"fetch the tree from {name}" in done.err
    native = tree_of(boxwright, tmp_path / "native", "engines/test:native")
    assert tree_of(fresh_boxwright, tmp_path / "engine", f"engines/test:{name}") == native
    assert 'name="chain"' in (tmp_path / "r.xml").read_text()
    # Another store on the same engine finds the steps there; LXC's states lie in the store itself.
    if name != "lxc":
        other = fresh_boxwright.at(tmp_path / "other-store")
        again = other("build", project, "--engine", name, "--set", f"engine={name}")
        assert "CACHED [image] run echo red >>/colours" in again.err
        assert tree_of(other, tmp_path / "again", f"engines/test:{name}") == native
    # One step more starts from the last state.
    text = (project / "manifest.yaml").read_text()
    (project / "manifest.yaml").write_text(text.replace("  - mkdir:", "  - echo more >/more\n  - mkdir:"))
    more = fresh_boxwright("build", project, "--engine", name, "--set", f"engine={name}")
    assert "CACHED [image] run id -u" in more.err


@each_name_and_native
def test_what_fails_leaves_no_image_and_no_container(
    fresh_boxwright: Program, name: str, project: Path, busybox_base: Path,
    forgetting: Callable[[str, Program], None],
) -> None:  # fmt: skip
    forgetting(name, fresh_boxwright)
    small(project, busybox_base, "echo two >/two")
    done = fresh_boxwright("build", project, "--engine", name, status=1)
    assert "[step.failed]" in done.err
    assert "so sad" in done.err
    assert "engines/test" not in fresh_boxwright("images").out


@each_name_and_native
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_who_is_ended_leaves_nothing(
    fresh_boxwright: Program, name: str, number: signal.Signals, project: Path, busybox_base: Path,
    forgetting: Callable[[str, Program], None],
) -> None:  # fmt: skip
    forgetting(name, fresh_boxwright)
    small(project, busybox_base, f"echo begun {time.time_ns()}; sleep 90")
    words = ["build", str(project), "--engine", name, "--progress", "plain"]
    process = fresh_boxwright.start(*words)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[1:2] == ["begun"]:
            break
    else:
        pytest.fail("the step never began")
    process.send_signal(number)
    process.communicate(timeout=60)
    if name == "native":
        return  # what is left of it are processes and mounts, for which every test looks afterwards

    def nothing_left() -> bool:
        opened = open_engine(name, "", os.environ, str(fresh_boxwright.home / "engines"))
        try:
            return opened.sweep() == 0
        finally:
            opened.close()

    # The guard, a process beside the build, removes what a killed one left: nobody has to come again.
    until(lambda: not _containers(name, fresh_boxwright.home / "engines"), 30)
    assert nothing_left()


BARE = """\
image: tar:BASE
files: [{src: conf/a, dest: /deep/a, mode: "0600"}]
install:
  - {run: [/busybox, cp, /deep/a, /made]}
artifact: engines/bare
"""


@pytest.mark.long
@each_name_and_native
def test_nothing_is_needed_inside_of_the_image(
    fresh_boxwright: Program, name: str, project: Path, tmp_path: Path, forgetting: Callable[[str, Program], None]
) -> None:
    """One static program: no shell, no init, no users, no Python."""
    forgetting(name, fresh_boxwright)
    with tarfile.open(tmp_path / "bare.tar", "w") as archive:
        archive.add("/bin/busybox", "busybox")
    (project / "manifest.yaml").write_text(BARE.replace("BASE", str(tmp_path / "bare.tar")))
    fresh_boxwright("build", project, "--engine", name)
    tree = tree_of(fresh_boxwright, tmp_path / "tree", "engines/bare")
    assert (tree["made"][-1], tree["deep/a"][0]) == (b"one", "0o100600")
    assert set(tree) == {"busybox", "deep", "deep/a", "made"}


SYSTEM = """\
image: debian:bookworm/system
files:
  - {src: greeter.service, dest: /etc/systemd/system/greeter.service}
install:
  - systemctl enable --now greeter
  - while ! test -s /run/greeting; do sleep 0.1; done; cat /run/greeting >/greeting
  - systemctl is-active greeter >>/greeting
artifact: engines/system
"""
UNIT = """\
[Service]
ExecStart=/bin/sh -c 'echo hello >/run/greeting; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ENGINES[2:])
def test_steps_use_services_of_a_booted_container(
    boxwright: Program, name: str, project: Path, tmp_path: Path, forgetting: Callable[[str, Program], None]
) -> None:
    forgetting(name, boxwright)
    (project / "manifest.yaml").write_text(SYSTEM)
    (project / "greeter.service").write_text(UNIT)
    boxwright("build", project, "--engine", name, "-t", f"engines/system:{name}", timeout=500)
    tree = tree_of(boxwright, tmp_path / "tree", f"engines/system:{name}")
    assert tree["greeting"][-1] == b"hello\nactive\n"
    assert "run/greeting" not in tree
    assert "etc/systemd/system/multi-user.target.wants/greeter.service" in tree
    assert tree.get("etc/machine-id", (b"",))[-1] == b""


LOGS = ("var/log/", "var/lib/dpkg/", "var/cache/ldconfig/", "var/lib/apt/extended_states", "var/cache/debconf/")
"""What apt and dpkg write times into, natively too, and what debconf opens for writing and leaves as it was."""


@pytest.mark.long
@pytest.mark.parametrize("name", ENGINES)
def test_a_web_application_with_tests_gives_the_same_tree(
    boxwright: Program, name: str, tmp_path: Path, forgetting: Callable[[str, Program], None]
) -> None:
    forgetting(name, boxwright)
    example = tmp_path / "python-notes"
    shutil.copytree(ROOT / "examples/python-notes", example)  # no checkout, so one time for all builds
    boxwright("build", example, "-t", "notes:native", timeout=500)
    done = boxwright("build", example, "--engine", name, "-t", f"notes:{name}", timeout=500)
    assert "unit tests" in done.err
    trees = [tree_of(boxwright, tmp_path / it, f"notes:{it}") for it in ("native", name)]
    native, engine = ({path: it for path, it in tree.items() if not path.startswith(LOGS)} for tree in trees)
    assert engine == native


def _containers(name: str, directory: Path) -> list[str]:
    """The build containers that run, asked of the engine's own client."""
    commands = {
        "docker": ["docker", "ps", "-aq", "--filter", "label=dev.boxwright.build"],
        "podman": ["podman", "ps", "-aq", "--filter", "label=dev.boxwright.build"],
        "lxc": ["ls", str(directory / "lxc/containers")],
        "lxd": ["lxc", "list", "-f", "csv", "-c", "n", "boxwright-build-", "status=running"],
    }
    done = subprocess.run(
        commands[name], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.stdout.split()


def test_an_engine_that_nobody_knows(boxwright: Program, project: Path) -> None:
    assert "[engine.unknown]" in boxwright("build", project, "--engine", "rkt", "--set", "engine=x", status=2).err


@pytest.mark.engine("docker")
def test_a_container_is_started_only_for_what_is_not_cached(
    fresh_boxwright: Program, project: Path, busybox_base: Path, forgetting: Callable[[str, Program], None]
) -> None:
    forgetting("docker", fresh_boxwright)
    small(project, busybox_base, "echo two >/two")
    text = (project / "manifest.yaml").read_text()
    (project / "manifest.yaml").write_text(text.replace("test ! -e /one", "test -e /one"))

    def started() -> int:
        since = f"{time.time():.9f}"
        fresh_boxwright("build", project, "--engine", "docker")
        words = ("--since", since, "--until", f"{time.time():.9f}", "--filter", "event=create", "--format", "{{.ID}}")
        labelled = ("--filter", "type=container", "--filter", "label=dev.boxwright.build")
        done = subprocess.run(["docker", "events", *words, *labelled], capture_output=True, text=True, check=True)
        return len(done.stdout.split())

    assert started() > 0
    assert started() == 0


@pytest.mark.engine("docker")
@pytest.mark.engine("ssh")
def test_docker_over_ssh(
    fresh_boxwright: Program, project: Path, busybox_base: Path, tmp_path: Path,
    forgetting: Callable[[str, Program], None],
) -> None:  # fmt: skip
    forgetting("docker", fresh_boxwright)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    port = free_port()
    options = (f"HostKey={tmp_path}/host", f"AuthorizedKeysFile={tmp_path}/user.pub", "StrictModes=no", "PidFile=none")
    (tmp_path / "bin").mkdir()
    known = f"-o UserKnownHostsFile={tmp_path}/known -o StrictHostKeyChecking=accept-new"
    (tmp_path / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -i {tmp_path}/user {known} "$@"\n')
    (tmp_path / "bin/ssh").chmod(0o755)
    small(project, busybox_base, "echo two >/two")
    text = (project / "manifest.yaml").read_text()
    (project / "manifest.yaml").write_text(text.replace("test ! -e /one", "test -e /one"))
    words = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-o", f"ListenAddress=127.0.0.1:{port}"]
    address = f"ssh://root@127.0.0.1:{port}"
    program = fresh_boxwright.with_environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}", DOCKER_HOST=address)
    with subprocess.Popen([*words, *(word for option in options for word in ("-o", option))]) as daemon:
        try:
            until(lambda: _listens(port))
            program("build", project, "--engine", "docker")
            assert "CACHED" in program("build", project, "--engine", "docker", "--endpoint", address).err
        finally:
            daemon.terminate()
    assert tree_of(fresh_boxwright, tmp_path / "tree", "engines/test:small")["two"][-1] == b"two\n"


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


# Several endpoints ---------------------------------------------------------------------------------------------------

SPREAD = """\
image: tar:BASE
matrix: {part: [a, b, c, d]}
install:
  - echo {{ matrix.part }} >/part
  - {run: "echo begun NONCE; sleep 2"}
  - echo end >>/part
artifact: "spread:{{ matrix.part }}"
"""


@pytest.fixture
def two_podmans() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two podmans with nothing in common, on ports of their own. Podman wants short paths."""
    top = Path(tempfile.mkdtemp(prefix="bw-"))
    commands = [["podman", "--root", str(top / name), "--runroot", str(top / f"{name}-run")] for name in ("a", "b")]
    ports = [free_port() for _ in commands]
    services = {}
    for words, port in zip(commands, ports, strict=True):
        address = f"tcp://127.0.0.1:{port}"
        command = [*words, "system", "service", "--time=0", address]
        services[address] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: all(_listens(port) for port in ports), 20)
        yield services
    finally:
        for words, service in zip(commands, services.values(), strict=True):
            service.kill()
            service.wait()
            subprocess.run([*words, "rm", "-f", "-a", "-t", "0"], check=False, capture_output=True, timeout=60)
            subprocess.run(["umount", "-R", f"{words[2]}/overlay"], check=False, capture_output=True)
        shutil.rmtree(top, ignore_errors=True)


@pytest.mark.engine("podman")
@pytest.mark.parametrize("killed", ["", "killed"], ids=["both", "one killed"])
def test_entries_are_spread_and_a_lost_endpoint_is_made_up_for(
    fresh_boxwright: Program, project: Path, busybox_base: Path, two_podmans: dict[str, subprocess.Popen[bytes]],
    killed: str,
) -> None:  # fmt: skip
    text = SPREAD.replace("BASE", str(busybox_base)).replace("NONCE", str(time.time_ns()))
    (project / "manifest.yaml").write_text(text)
    addresses = [word for socket in two_podmans for word in ("--endpoint", socket)]
    words = ["build", str(project), "--engine", "podman", *addresses, "--progress", "plain"]
    said = ""
    begun = 0
    with fresh_boxwright.start(*words) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            begun += line.split()[1:2] == ["begun"]
            if killed and begun == 2:
                next(iter(two_podmans.values())).kill()
                begun = 9
    assert process.returncode == 0, said
    assert ("its work is done elsewhere" in said) is bool(killed)
    images = fresh_boxwright("images").out
    assert all(f"spread:{part}" in images for part in "abcd")
    if not killed:
        held = [len(opened_states(address)) for address in two_podmans]
        assert all(count >= 4 for count in held), held


def opened_states(address: str) -> set[str]:
    opened = open_engine("podman", address, os.environ, "")
    try:
        return opened.states()
    finally:
        opened.close()
