"""Manifests on each engine: the same tree, nothing left by what fails or is killed, work spread over endpoints."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwright.engines.building.choose import open_engine
from tests.conftest import ROOT, Program
from tests.integration.binhosts import long
from tests.integration.conftest import free_port, until
from tests.integration.test_engines import ENGINES, LXD_LONG

pytestmark = pytest.mark.integration

# LXD's pool of a test machine copies each state: what isn't its contract is in `make long`.
each_name_and_native = pytest.mark.parametrize("name", ["native", *ENGINES[:3], pytest.param("lxd", marks=LXD_LONG)])
DOCKER, *OTHERS = ENGINES[:3]
each_name = pytest.mark.parametrize("name", [long(DOCKER), *OTHERS, pytest.param("lxd", marks=LXD_LONG)])

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
