"""The sandbox for real: a small Debian tree of busybox-like programs taken from this machine, as root and rootless."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError, MachineError, StepError
from boxwright.ports import Bind, ExitStatus, SandboxSpec, Tmpfs
from boxwright.sandbox.launcher import Launcher

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM_NAMES = (
    "sh bash cat chmod chown cp env getent grep hostname id kill ls mkdir mknod mount mv ps readlink rm "
    "rmdir sleep stat stty touch tty unshare perl setpriv head "
)
PROGRAMS = PROGRAM_NAMES.split()
USERFAULTFD = f"perl -e 'syscall({323 if platform.machine() == 'x86_64' else 282}, 4095); print $!+0'"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts as root")
pytestmark = [needs_root, pytest.mark.integration]


def libraries(program: Path) -> list[str]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return [word for word in said.split() if word.startswith("/")]


def make_tree(root: Path) -> None:
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc", "tmp", "root", "opt", "srv"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    needed: set[str] = set()
    for name in PROGRAMS:
        found = Path("/usr/bin") / name
        if not found.exists():
            continue
        shutil.copy(found, root / "usr/bin" / name)
        needed.update(libraries(found))
    needed.update(str(path) for path in Path("/usr/lib").glob("*-linux-gnu/libnss_*.so*"))
    for library in needed:
        real = Path("/") / "usr" / library.removeprefix("/usr/").lstrip("/")
        target = root / real.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:50:app\n")
    shutil.copy(root / "usr/bin/id", root / "usr/bin/setuid-id")
    (root / "usr/bin/setuid-id").chmod(0o4755)
    shutil.copy(root / "usr/bin/cat", root / "usr/bin/capable-cat")
    dac_override = struct.pack("<5I", 0x02000001, 1 << 1, 0, 0, 0)  # <linux/capability.h>, struct vfs_cap_data
    os.setxattr(root / "usr/bin/capable-cat", "security.capability", dac_override)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("sandbox")
    make_tree(top / "base")
    yield top
    shutil.rmtree(top, ignore_errors=True)


class Box:
    def __init__(self, top: Path, launcher: Launcher) -> None:
        self.top = top
        self.launcher = launcher
        self.count = 0

    def spec(self, command: str | tuple[str, ...], **changes: object) -> SandboxSpec:
        self.count += 1
        layer = self.top / f"layer-{threading.get_ident()}-{self.count}"
        (layer / "upper").mkdir(parents=True)
        (layer / "work").mkdir()
        argv = ("sh", "-c", command) if isinstance(command, str) else command
        fields: dict[str, object] = {"network": "none", **changes}
        env = (("PATH", "/usr/bin"),)
        return SandboxSpec(str(self.top), ("base",), str(layer / "upper"), str(layer / "work"), argv, env, **fields)  # type: ignore[arg-type]

    def run(self, command: str | tuple[str, ...] | SandboxSpec, **changes: object) -> tuple[ExitStatus, str]:
        spec = command if isinstance(command, SandboxSpec) else self.spec(command, **changes)
        output: list[bytes] = []
        status = self.launcher.run(spec, output.append, lambda: False)
        return status, b"".join(output).decode()

    def says(self, command: str, **changes: object) -> str:
        status, text = self.run(command, **changes)
        assert status.code == 0, text
        return text


@pytest.fixture(scope="module")
def box(place: Path) -> Iterator[Box]:
    launcher = Launcher.start(place / "cache")
    yield Box(place, launcher)
    launcher.close()
    assert str(place) not in Path("/proc/self/mounts").read_text()


def test_runs_and_leaves_only_what_it_wrote(box: Box) -> None:
    spec = box.spec("echo hello; touch /opt/new", mounts=(Bind("/etc", "/mnt/there"), Tmpfs("/cache")))
    assert box.run(spec) == (ExitStatus(0), "hello\n")
    upper = Path(spec.upper)
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == ["opt", "opt/new"]


def test_a_layer_can_be_mounted_again(box: Box) -> None:
    spec = box.spec("cat /opt/n 2>/dev/null; echo again > /opt/n")
    assert [box.run(spec)[1], box.run(spec)[1]] == ["", "again\n"]


def test_exit_status(box: Box) -> None:
    assert box.run("exit 7")[0] == ExitStatus(7)
    assert box.run("kill -9 $$; sleep 0.1")[0].code in (0, 137)  # a first process can't be killed from inside
    assert box.run("sh -c 'kill -15 $$'")[0] == ExitStatus(143)


def test_command_not_found_or_not_executable(box: Box) -> None:
    status, text = box.run(("no-such-program",))
    assert status == ExitStatus(127)
    assert "no-such-program: not found" in text
    status, text = box.run(("/etc/passwd",))
    assert status == ExitStatus(126)
    assert "Permission denied" in text


def test_standard_input_is_given(box: Box) -> None:
    assert box.says("cat", stdin=b"from outside" * 100_000) == "from outside" * 100_000
    assert box.says("cat") == ""


def test_only_standard_descriptors(box: Box) -> None:
    extra = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        assert box.says("ls /proc/$$/fd; ls /proc/1/fd").split() == ["0", "1", "2"] * 2
    finally:
        os.close(extra)


def test_user(box: Box) -> None:
    assert box.says("id", user="app").strip() == "uid=1000(app) gid=1000(app) groups=1000(app),50(extra)"
    assert box.says("id -u; echo $HOME", user="4000").split() == ["4000", "/"]
    assert box.says("grep CapEff /proc/self/status", user="app").split()[1] == "0" * 16
    with pytest.raises(StepError) as caught:
        box.run("id", user="nobody-here")
    assert caught.value.code == "sandbox.user-unknown"


def test_setuid_and_file_capabilities_work(box: Box) -> None:
    assert "euid=0(root)" in box.says("setuid-id", user="app")
    become = "setpriv --reuid 1000 --regid 1000 --clear-groups"
    assert "extra" in box.says(f"chmod 600 /etc/group; {become} capable-cat /etc/group")


def test_capabilities_and_seccomp(box: Box) -> None:
    facts = dict(line.split(":\t", 1) for line in box.says("cat /proc/self/status").splitlines() if ":\t" in line)
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0xA80425FB
    assert facts["CapInh"] == facts["CapAmb"] == "0" * 16
    assert facts["Seccomp"] == "2"
    assert facts["NoNewPrivs"] == "0"
    assert box.run("mount -t tmpfs x /tmp")[0].code != 0
    # The filter answers before the kernel sees that the flags are wrong.
    assert box.says(USERFAULTFD).strip() == str(errno.EPERM)
    assert box.says(USERFAULTFD, security="insecure").strip() == str(errno.EINVAL)


def test_insecure(box: Box) -> None:
    facts = box.says("cat /proc/self/status; mount -t tmpfs x /tmp", security="insecure")
    assert "Seccomp:\t0" in facts


def test_namespaces_are_its_own(box: Box) -> None:
    kinds = ("mnt", "pid", "uts", "ipc", "cgroup", "net")
    inside = box.says("for k in mnt pid uts ipc cgroup net; do readlink /proc/self/ns/$k; done").split()
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    assert box.says("hostname; cat /etc/hostname", hostname="inner").split() == ["inner", "inner"]
    assert box.says("echo $$").strip() == "1"


def test_nothing_of_the_host_is_visible(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host")
    assert box.run(f"cat {secret}")[0].code != 0
    assert box.run("cat /proc/kcore /proc/keys | grep .")[0].code != 0
    assert box.run("echo 1 > /proc/sys/kernel/hostname")[0].code != 0
    assert box.run("echo x > /proc/sysrq-trigger")[0].code != 0
    assert box.run("touch /sys/x")[0].code != 0
    device = os.stat("/").st_dev
    node = f"mknod /disk b {os.major(device)} {os.minor(device)} && cat /disk"
    assert "Permission denied" in box.run(f"{node} 2>&1")[1]
    shared = "mknod /dev/shm/disk b 1 0 && head -c1 /dev/shm/disk"
    assert "Permission denied" in box.run(f"{shared} 2>&1")[1]


def test_devices(box: Box) -> None:
    names = box.says("ls /dev").split()
    assert names == [
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ]
    assert box.says("echo x > /dev/null; head -c 3 /dev/zero | cat > /dev/shm/y; stat -c %s /dev/shm/y") == "3\n"


def test_binds(box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    file = Bind(str(tmp_path / "file"), "/deep/er/file")
    mounts = (Bind(str(tmp_path), "/data"), Bind(str(tmp_path), "/open", read_only=False), file)
    text = box.says("cat /data/file /deep/er/file; touch /data/x 2>/dev/null || echo no; touch /open/x", mounts=mounts)
    assert text == "contentcontentno\n"
    assert (tmp_path / "x").exists()


def test_mount_points_behind_symlinks_are_removed(box: Box, tmp_path: Path) -> None:
    spec = box.spec("cat /link/in/file")
    os.makedirs(f"{spec.upper}/real")
    os.symlink("/real", f"{spec.upper}/link")
    (tmp_path / "file").write_text("behind")
    spec = SandboxSpec(
        spec.layers_directory, spec.lowers, spec.upper, spec.work, spec.argv, spec.env,
        network="none", mounts=(Bind(str(tmp_path), "/link/in"),),
    )  # fmt: skip
    before = os.stat(f"{spec.upper}/real").st_mtime_ns
    assert box.run(spec) == (ExitStatus(0), "behind")
    assert os.listdir(f"{spec.upper}/real") == []
    assert os.stat(f"{spec.upper}/real").st_mtime_ns == before


def test_read_only_tree(box: Box) -> None:
    spec = SandboxSpec(str(box.top), ("base",), "", "", ("sh", "-c", "touch /x || ls /etc"), (), network="none")
    status, text = box.run(spec)
    assert status.code == 0
    assert "passwd" in text


def test_working_directory(box: Box) -> None:
    assert box.says("pwd", cwd="/usr/bin") == "/usr/bin\n"
    assert box.says("pwd; stat -c %a:%u .", cwd="/made/anew") == "/made/anew\n755:0\n"
    with pytest.raises(StepError) as caught:
        box.run("pwd", cwd="/etc/passwd")
    assert caught.value.code == "sandbox.cwd"


def test_limits(box: Box) -> None:
    assert box.says("ulimit -n", limits=(("nofile", 100, 100),)) == "100\n"
    with pytest.raises(StepError) as caught:
        box.run("true", limits=(("nonsense", 1, 1),))
    assert caught.value.code == "sandbox.limit"


def test_time_limit_and_cancel(box: Box) -> None:
    began = time.monotonic()
    status, _ = box.run("sleep 60 & sleep 60", time_limit=0.3)
    assert status == ExitStatus(137, timed_out=True)
    status = box.launcher.run(box.spec("sleep 60"), lambda _: None, lambda: time.monotonic() > began + 1)
    assert status == ExitStatus(137)
    assert time.monotonic() - began < 5


def test_missing_layer_is_an_error(box: Box) -> None:
    spec = SandboxSpec(str(box.top), ("not-there",), "", "", ("true",), (), network="none")
    with pytest.raises(MachineError) as caught:
        box.run(spec)
    assert caught.value.code == "sandbox.mount"


def test_init_reaps_and_forwards(box: Box) -> None:
    assert box.run("sh -c 'sleep 0.1 & exit' ; sleep 0.3; exit 5", init=True)[0] == ExitStatus(5)
    assert box.says("echo $$", init=True).strip() != "1"


def test_terminal(box: Box) -> None:
    assert "/dev/pts/0" in box.says("tty; stty size", terminal=True)


def test_network_none_and_host(box: Box) -> None:
    assert box.says("ls /sys/class/net") == "lo\n"
    assert box.says("ls /sys/class/net", network="host").split() == sorted(os.listdir("/sys/class/net"))


@pytest.mark.skipif(not (shutil.which("pasta") or shutil.which("slirp4netns")), reason="no user-mode network")
def test_network_default(box: Box) -> None:
    with open("/proc/net/route") as routes:
        if not any(line.split()[1] == "00000000" for line in routes):
            pytest.skip("this machine has no default route")
    # The host's loopback is out of reach.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>&1 || echo refused"
        assert "refused" in box.says(probe, network="default")
        gateway = "cat /proc/net/route"
        assert "00000000" in box.says(gateway, network="default")


def test_eight_at_once(box: Box) -> None:
    results: list[tuple[ExitStatus, str]] = []
    specs = [box.spec(f"echo {number} > /opt/n; sleep 0.2; cat /opt/n") for number in range(8)]
    threads = [threading.Thread(target=lambda spec=spec: results.append(box.run(spec))) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text for _, text in results) == [f"{number}\n" for number in range(8)]


def processes_with(text: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if text.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def wait_until(check: object, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


MAIN = """
    import sys
    from pathlib import Path
    from boxwright.ports import SandboxSpec
    from boxwright.sandbox.launcher import Launcher
    top, user = sys.argv[1:]
    launcher = Launcher.start(Path(top) / "cache")
    for name in ("upper", "work"):
        (Path(top) / f"killed-{user}" / name).mkdir(parents=True)
    layer = f"{top}/killed-{user}"
    spec = SandboxSpec(top, ("base",), f"{layer}/upper", f"{layer}/work", ("sh", "-c", "sleep 4321 & sleep 4321"),
                       (("PATH", "/usr/bin"),), user=user, network="none")
    launcher.run(spec, lambda data: None, lambda: False)
"""


@pytest.mark.parametrize("user", ["root", "app"])
def test_killed_main_leaves_nothing(place: Path, user: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(MAIN), str(place), user]
    main = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCE)})
    try:
        assert wait_until(lambda: len(processes_with("sleep\x004321")) >= 2)
    finally:
        main.send_signal(signal.SIGKILL)
        main.wait()
    assert wait_until(lambda: not processes_with("sleep\x004321") and not processes_with(f"{place}\x00{user}"))


def test_detached_outlives_and_can_be_entered(box: Box, place: Path) -> None:
    log = os.open(place / "log", os.O_RDWR | os.O_CREAT)
    ended = os.open(place / "ended", os.O_RDWR | os.O_CREAT)
    null = os.open("/dev/null", os.O_RDONLY)
    launcher = Launcher.start(place / "cache")
    spec = box.spec("echo up; touch /tmp/mark; sleep 60 & wait", init=True)
    detached = launcher.spawn(spec, (null, log, log), status_fd=ended)
    os.close(null)
    launcher.close()
    try:
        assert wait_until(lambda: (place / "log").read_text() == "up\n")
        readable, writable = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        status = box.launcher.enter(
            detached.pid, ("sh", "-c", "ls /tmp; id -u; hostname"), {"PATH": "/usr/bin"}, user="app",
            fds=(null, writable, writable),
        )  # fmt: skip
        os.close(writable)
        os.close(null)
        assert os.read(readable, 100).split() == [b"mark", b"1000", b"boxwright"]
        os.close(readable)
        assert status == ExitStatus(0)
    finally:
        os.kill(detached.pid, signal.SIGKILL)
    assert wait_until(lambda: (place / "ended").read_text() == "137\n")
    os.close(log)
    os.close(ended)


QUICK = """
    import os, sys, time
    from contextlib import ExitStack
    from pathlib import Path
    from boxwright.sandbox.launcher import Launcher

    with ExitStack() as stack:
        stack.callback(lambda: os.write(1, b"the end "))
        for number in range(80):
            launcher = Launcher.start(Path(sys.argv[1]))
            launcher.prepare_network()
            time.sleep(number % 40 * 0.0005)
            launcher.close()
"""


def test_a_network_that_nobody_waits_for_ends_by_itself(place: Path) -> None:
    """Its process is a copy of this one: it must never do what this one does at its end."""
    command = [sys.executable, "-c", textwrap.dedent(QUICK), str(place / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "the end ", done.stderr


STARTER = """
    import os, signal, sys
    from pathlib import Path
    from boxwright.ports import SandboxSpec
    from boxwright.sandbox.launcher import Launcher

    top, layer, ended = sys.argv[1:]
    argv = ("sh", "-c", "touch /tmp/ran; sleep 8765")
    env = (("PATH", "/usr/bin"),)
    spec = SandboxSpec(top, ("base",), f"{layer}/upper", f"{layer}/work", argv, env, network="none")
    launcher = Launcher.start(Path(top) / "cache")
    null = os.open("/dev/null", os.O_RDWR)
    file = os.open(ended, os.O_RDWR | os.O_CREAT)

    def begin(started):
        assert started.pid
        os.kill(os.getpid(), signal.SIGKILL)

    launcher.spawn(spec, (null, null, null), status_fd=file, begin=begin)
"""


def test_killed_before_it_is_noted_nothing_runs(place: Path) -> None:
    """A container that no record knows of would run for ever."""
    layer = place / "layer-starter"
    (layer / "upper").mkdir(parents=True)
    (layer / "work").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(STARTER), *map(str, (place, layer, place / "ended-starter"))]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert wait_until(lambda: (place / "ended-starter").read_text() == "125\n")
    assert not processes_with("sleep\x008765")
    assert not (layer / "upper/tmp/ran").exists()


def test_spawn_says_what_is_wrong(box: Box) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(BoxwrightError) as caught:
        box.launcher.spawn(box.spec("true", user="nobody-here"), (null, null, null))
    os.close(null)
    assert caught.value.code == "sandbox.user-unknown"


ROOTLESS = """
    import os, sys
    from pathlib import Path
    from boxwright.sandbox import userns
    userns.enter_user_namespace()
    from boxwright.ports import SandboxSpec
    from boxwright.sandbox.launcher import Launcher
    top = sys.argv[1]
    launcher = Launcher.start(Path(top) / "cache")
    for network in ("none", "host", "default"):
        for user in ("", "app"):
            layer = Path(top) / f"layer-{network}-{user}"
            (layer / "upper").mkdir(parents=True)
            (layer / "work").mkdir()
            command = "id -u; echo hi > /tmp/file; mv /tmp/file /tmp/other; setuid-id; ls /sys/class/net"
            if not user:
                command = "chown 1000:50 /etc/group; " + command
            spec = SandboxSpec(top, ("base",), f"{layer}/upper", f"{layer}/work", ("sh", "-c", command),
                               (("PATH", "/usr/bin"),), user=user, network=network)
            status = launcher.run(spec, lambda data: os.write(1, data), lambda: False)
            assert status.code == 0, status
    layer = Path(top) / "layer-late"
    (layer / "upper").mkdir(parents=True)
    (layer / "work").mkdir()
    spec = SandboxSpec(top, ("base",), f"{layer}/upper", f"{layer}/work", ("sleep", "60"),
                       (("PATH", "/usr/bin"),), user="app", network="none", time_limit=0.3)
    assert launcher.run(spec, lambda data: None, lambda: False).timed_out
    launcher.close()
    print("DONE", os.stat(f"{top}/layer-none-/upper/etc/group").st_uid)
"""


@pytest.fixture
def ordinary_user() -> Iterator[str]:
    name = f"bxsbx{os.getpid()}"
    subprocess.run(["useradd", "--create-home", name], check=True)
    yield name
    subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="uidmap is not installed")
def test_rootless(ordinary_user: str) -> None:
    home = Path(f"/home/{ordinary_user}")
    make_tree(home / "top/base")
    subprocess.run(["chown", "-R", f"{ordinary_user}:", str(home / "top")], check=True)
    (home / "top/base/usr/bin/setuid-id").chmod(0o4755)
    shutil.copytree(SOURCE, home / "src")
    script = home / "script.py"
    script.write_text(textwrap.dedent(ROOTLESS))
    # Here /dev/net/tun may be root's alone; with udev it is everybody's. A mount namespace gives one that is.
    tun = f"mknod -m 666 {home}/tun c 10 200 && mount --bind {home}/tun /dev/net/tun && "
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    command = f"{tun} exec runuser -u {ordinary_user} -- env PYTHONPATH={home}/src {python} -B {script} {home}/top"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=False, timeout=120, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "DONE 1000"
    assert done.stdout.count("euid=0(root)") == 3
