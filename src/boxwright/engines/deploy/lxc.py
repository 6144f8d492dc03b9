"""Instances of LXC on this machine, below one directory of ours (``lxc-* -P``).

Each has one process that holds all of it: a shell in a network and a mount namespace of its own, in which the image's
layers lie under the instance's directory (overlayfs) and ``lxc-start`` runs in the foreground. So nothing is mounted on
the machine, and everything goes when that process ends. Programs are run by lxc-execute(1), which takes their words as
they are, is their init and gives their exit status; an image's own init is run by lxc-start(1).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from boxwright.engines import processes
from boxwright.engines.forward import Forward
from boxwright.engines.nftrules import RULES
from boxwright.engines.processes import ProcessMark
from boxwright.engines.records import Mounted
from boxwright.engines.signals import signal_number
from boxwright.errors import BoxwrightError, MachineError
from boxwright.model.deployment import INITS

NEEDED = ("lxc-start", "lxc-execute", "lxc-attach", "lxc-info", "unshare", "nsenter", "setsid")
COMMON = "/usr/share/lxc/config/common.conf"
CAPABILITIES = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod "
    "audit_write setfcap"
)
_START_SECONDS = 30.0
_KILL_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_TAIL = 3
_NO_PROGRAM = 255
"""What lxc-execute says where the program can't be run."""
_HOLDER = """\
ip link set lo up && echo $$ && read -r go && [ "$go" = go ] || exit 1
exec </dev/null >>"$1/log" 2>&1
place=$1 lowers=$2 init=$3
shift 3
options=lowerdir=$lowers,upperdir=../upper,workdir=../work
cd "$place/l" && mount -t overlay overlay -o "$options" "$place/root" || exit 1
cd /
set -- -P "${place%/*}" -n "${place##*/}" -o "$place/lxc.log" -l ERROR "$@"
if [ "$init" = yes ]; then lxc-start -F "$@"; else lxc-execute "$@"; fi
echo $? >"$place/exit.new" && mv "$place/exit.new" "$place/exit"
"""


class LxcRecord(NamedTuple):
    """What an instance is. `attachments` are its addresses by network, `user` its program's numbers."""

    labels: tuple[tuple[str, str], ...]
    layers: tuple[str, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    directory: str
    user: tuple[int, int]
    hostname: str
    internal: bool
    ports: tuple[Forward, ...]
    mounts: tuple[Mounted, ...]
    stop_signal: str
    attachments: tuple[tuple[str, str], ...]

    @property
    def is_system(self) -> bool:
        """Whether its program is an init."""
        return self.argv[:1] != () and self.argv[0] in INITS


class LxcStatus(NamedTuple):
    """Its processes once it was started: what holds it, and the program that carries its network's traffic."""

    holder: ProcessMark
    carrier: ProcessMark | None
    started: float
    ports: tuple[str, ...]


Connect = Callable[[int, str], tuple[ProcessMark | None, tuple[str, ...]]]
"""Given the holder's id and the instance's directory, connects its network; returns the carrier and its ports."""


class LxcInstances:
    """The instances below `directory`; layers are below `layers`. Raises MachineError where LXC is not there."""

    def __init__(self, directory: str, layers: str) -> None:
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            raise MachineError(
                "deploy.engine-missing", f"the program {missing[0]} is missing", hint="apt-get install lxc"
            )
        self._directory = directory
        self._layers = layers

    def names(self) -> list[str]:
        """All that are there."""
        try:
            return sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []

    def place(self, name: str) -> str:
        """An instance's directory."""
        return f"{self._directory}/{name}"

    def make_place(self, name: str) -> str:
        """A new, empty one."""
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        place = self.place(name)
        os.mkdir(place, 0o711)
        for part in ("l", "root"):
            os.mkdir(f"{place}/{part}", 0o755)
        return place

    # Records ----------------------------------------------------------------------------------------------------------

    def write(self, name: str, record: LxcRecord) -> None:
        """The record is written last: what has none was interrupted."""
        place = self.place(name)
        for number, layer in enumerate(record.layers):
            # Short names: the kernel takes one page of options (mount(2)), whatever the store's path is.
            os.symlink(f"{self._layers}/{layer}", f"{place}/l/{number}")
        _write(f"{place}/config", _config(place, record))
        _write(f"{place}/record.json", json.dumps(record._asdict()))

    def find(self, name: str) -> LxcRecord | None:
        """What an instance is; None where there is none, or it was never finished."""
        try:
            with open(f"{self.place(name)}/record.json", encoding="utf-8", errors="surrogateescape") as file:
                raw = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        pairs = {key: tuple((a, b) for a, b in raw[key]) for key in ("labels", "env", "attachments")}
        lists = {key: tuple(raw[key]) for key in ("layers", "argv", "user")}
        given = {
            "mounts": tuple(Mounted(*it) for it in raw["mounts"]),
            "ports": tuple(Forward(*it) for it in raw["ports"]),
        }
        return LxcRecord(**{**raw, **pairs, **lists, **given})

    def get(self, name: str) -> LxcRecord:
        """The same. Raises BoxwrightError `deploy.no-instance`."""
        found = self.find(name)
        if found is None:
            raise BoxwrightError("deploy.no-instance", f"there is no instance {name}")
        return found

    def status(self, name: str) -> LxcStatus | None:
        """Its processes; None where it was never started."""
        try:
            with open(f"{self.place(name)}/status.json", encoding="ascii") as file:
                raw = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        carrier = ProcessMark(*raw["carrier"]) if raw["carrier"] else None
        return LxcStatus(ProcessMark(*raw["holder"]), carrier, raw["started"], tuple(raw["ports"]))

    def is_running(self, name: str) -> bool:
        """Whether what holds it is there."""
        status = self.status(name)
        return status is not None and processes.is_alive(status.holder)

    def exit_code(self, name: str) -> int | None:
        """With what its program ended; None where nobody knows."""
        record = self.find(name)
        try:
            with open(f"{self.place(name)}/exit", encoding="ascii") as file:
                return None if record is None or record.is_system else int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    # Starting and stopping --------------------------------------------------------------------------------------------

    def start(self, name: str, connect: Connect) -> None:
        """Start it; returns when its program runs, or has run. Raises BoxwrightError `deploy.start`."""
        record, place = self.get(name), self.place(name)
        self.tidy(name)
        for old in ("exit", "status.json", "lxc.log"):
            _unlink(f"{place}/{old}")
        holder = self._hold(place, record)
        try:
            assert holder.stdout is not None  # noqa: S101  for the type checker
            said = holder.stdout.readline()
            if not said.strip().isdigit():
                raise BoxwrightError("deploy.start", f"{name} gets no namespaces", hint="'boxwright doctor' may help")
            pid = int(said)
            carrier, ports = connect(pid, place)
            status = LxcStatus(processes.mark(pid), carrier, time.time(), ports)
            _write(f"{place}/status.json", json.dumps(status._asdict()))
            assert holder.stdin is not None  # noqa: S101  likewise
            holder.stdin.write(b"go\n")
        finally:
            # Without the word the holder ends, and its namespaces with it.
            holder.communicate()
        self._await_start(name, place)

    def _hold(self, place: str, record: LxcRecord) -> subprocess.Popen[bytes]:
        """The process that will hold it, as nobody's child, which tells its id and waits for its network."""
        lowers = ":".join(str(number) for number in range(len(record.layers)))
        holding = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLDER, "boxwright"]
        words = [place, lowers, "yes" if record.is_system else "no"]
        words += [] if record.is_system else ["--", *record.argv]
        return subprocess.Popen(
            ["setsid", "--fork", *holding, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )

    def _await_start(self, name: str, place: str) -> None:
        record = self.get(name)
        until = time.monotonic() + _START_SECONDS
        while self.is_running(name):
            first = self._first_process(name)
            if first and (record.is_system or _has_begun(first)):
                return
            if time.monotonic() > until:
                self.kill(name)
                raise BoxwrightError("deploy.start", f"{name} does not start: {_tail(place)}")
            time.sleep(_PAUSE_SECONDS)
        if self.exit_code(name) == _NO_PROGRAM:
            hint = "is it in the image, for this machine's architecture, and may it be run?"
            raise BoxwrightError("deploy.start", f"{name} can't run {record.argv[0]}", hint=hint)
        if record.is_system or not os.path.exists(f"{place}/exit"):
            raise BoxwrightError("deploy.start", f"{name} does not start: {_tail(place)}")

    def _first_process(self, name: str) -> int:
        """The id of the container's own first process, 0 where there is none."""
        done = subprocess.run([*self.inside(name, "lxc-info"), "-pH"], capture_output=True, check=False, timeout=30)
        text = done.stdout.strip()
        return int(text) if text.isdigit() else 0

    def inside(self, name: str, program: str) -> list[str]:
        """One of LXC's programs for an instance that runs: it is reached over a socket in the instance's network."""
        status = self.status(name)
        network = f"--net=/proc/{status.holder.pid if status else 0}/ns/net"
        return ["nsenter", network, program, "-P", self._directory, "-n", name]

    def stop(self, name: str, seconds: float) -> None:
        """Ask its first process to end, with its image's signal; kill it after `seconds`."""
        record, status = self.find(name), self.status(name)
        if record is None or status is None or not processes.is_alive(status.holder):
            return
        first = processes.mark(self._first_process(name))
        number = signal_number(record.stop_signal)
        asked = seconds > 0 and processes.heeds(first, number) and processes.send(first, number)
        if not (asked and processes.await_end(status.holder, seconds)):
            self.kill(name)
        self.tidy(name)

    def kill(self, name: str) -> None:
        """Kill it and wait until it is gone. Raises MachineError `container.stuck`."""
        status = self.status(name)
        if status is None:
            return
        first = processes.mark(self._first_process(name))
        if first.started:
            processes.send(first, signal.SIGKILL)
            processes.await_end(status.holder, _KILL_SECONDS)
        processes.send(status.holder, signal.SIGKILL)
        if not processes.await_end(status.holder, _KILL_SECONDS):
            raise MachineError("container.stuck", f"{name} can't be killed", hint="look for a hanging file system")

    def tidy(self, name: str) -> None:
        """End what carries the network of an instance that has ended."""
        status = self.status(name)
        if status is not None and status.carrier is not None and not processes.is_alive(status.holder):
            processes.send(status.carrier, signal.SIGTERM)

    def delete(self, name: str) -> None:
        """Remove it, running or not."""
        self.kill(name)
        self.tidy(name)
        shutil.rmtree(self.place(name), ignore_errors=True)

    def log(self, name: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote."""
        from boxwright.engines.streams import read_log

        return read_log(f"{self.place(name)}/log", lambda: follow() and self.is_running(name))

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The words that run a command in it as root."""
        words = [*self.inside(name, "lxc-attach"), "--clear-env"]
        for key, value in self.get(name).env:
            words += ["-v", f"{key}={value}"]
        return [*words, "--", *argv]


def _config(place: str, record: LxcRecord) -> str:
    """As in lxc.container.conf(5); the network is the holder's."""
    lines = [
        f"lxc.include = {COMMON}",
        f"lxc.uts.name = {record.hostname}",
        f"lxc.rootfs.path = dir:{place}/root",
        "lxc.net.0.type = none",
        "lxc.console.path = none",
        "lxc.tty.max = 0",
        f"lxc.init.cwd = {record.directory or '/'}",
        f"lxc.init.uid = {record.user[0]}",
        f"lxc.init.gid = {record.user[1]}",
    ]
    if record.is_system:
        lines += [f"lxc.init.cmd = {' '.join(record.argv)}"]
        if os.path.exists(f"{place}/{RULES}"):
            lines.append("lxc.cap.drop = net_admin")  # else it could change the rules of its networks
    else:
        lines += ["lxc.cap.drop =", f"lxc.cap.keep = {CAPABILITIES}"]
        lines += ["lxc.mount.auto =", "lxc.mount.auto = proc:mixed sys:ro cgroup:ro"]
    if not os.path.exists("/sys/kernel/security/apparmor"):
        lines.append("lxc.apparmor.profile = unconfined")
    for key, value in record.env:
        check_variable(key, value)
        lines.append(f"lxc.environment = {key}={value}")
    for mount in record.mounts:
        kind = "dir" if os.path.isdir(mount.source) else "file"
        access = "ro" if mount.read_only else "rw"
        source, target = (_escaped(path) for path in (mount.source, mount.target.lstrip("/")))
        lines.append(f"lxc.mount.entry = {source} {target} none rbind,{access},create={kind} 0 0")
    return "\n".join(lines) + "\n"


def _has_begun(init: int) -> bool:
    """Whether the program that lxc-execute's init is to run has taken the place of the child that was forked for it."""
    child = processes.first_child(init)
    try:
        return bool(child) and os.readlink(f"/proc/{child}/exe") != os.readlink(f"/proc/{init}/exe")
    except OSError:
        return False


def check_variable(name: str, value: str) -> None:
    """Raises BoxwrightError `deploy.engine-lacks` where its value has several lines."""
    if "\n" in value:
        message = f"the variable {name} has several lines, which LXC can't be told"
        raise BoxwrightError("deploy.engine-lacks", message, hint="give it as a file (files: or secrets:)")


def _escaped(path: str) -> str:
    """As in fstab(5)."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def _write(path: str, text: str) -> None:
    temporary = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.rename(temporary, path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _tail(place: str) -> str:
    """The end of what LXC itself had to say, or of what the instance wrote."""
    for name in ("lxc.log", "log"):
        try:
            with open(f"{place}/{name}", encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()[-_TAIL:]
        except OSError:
            continue
        if lines:
            return " ".join(lines)
    return ""
