"""A three-member LXD cluster on this machine, each member in a network namespace.

    python -m tests.integration.cluster up      makes one, and says how to speak to it
    python -m tests.integration.cluster down    removes those that nobody uses any more, and that one

The members' cables end in a bridge in a namespace of its own ("switch"): the machine's network is left alone. What is
made stands in a file below RECORDS, written before it is made; taking down goes by that file, so it also removes what a
killed run left, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import MARK, Program, Result

RECORDS = Path(os.environ.get("BOXWRIGHT_CLUSTERS", "/run/boxwright-clusters"))
SUBNET = "10.1.1"
PATIENCE = 60.0
OWN = "own"  # the one that a person made: it stays until that person says so
_NEWNET = 0x40000000
# A fresh /sys shows this namespace's bridges; the cgroups are bound back into it, else no container starts.
_SYS = """\
set -e
mkdir -p "$1/cgroup"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
PATH="$1.bin:$PATH" exec lxd --group root
"""


@dataclass(frozen=True)
class Member:
    """One server: its name in the cluster, its namespace, its directory (LXD_DIR) and its address."""

    name: str
    namespace: str
    directory: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        return {"LXD_DIR": str(self.directory)}

    def query(self, path: str, timeout: float = 20) -> Any:
        done = subprocess.run(
            ["lxc", "query", path],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return json.loads(done.stdout or "null")


class Cluster:
    """A cluster that this process made, or that stands in a record. `script` becomes each member's daemon."""

    script = _SYS

    def __init__(self, identity: str, directory: Path) -> None:
        self.identity = identity
        self.directory = directory
        self.switch = f"bwc{identity}-sw"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.members = tuple(
            Member(f"node{it}", f"bwc{identity}-n{it}", directory / f"n{it}", f"{SUBNET}.10{it}") for it in (1, 2, 3)
        )

    @property
    def record(self) -> Path:
        return RECORDS / f"{self.identity}.json"

    def program(self, program: Program, member: int) -> Program:
        """The program as it runs on a member (1 to 3)."""
        chosen = self.members[member - 1]
        inside = ("nsenter", f"--net=/run/netns/{chosen.namespace}")
        return MemberProgram(program.home, {**program.environment, **chosen.environment}, program.user, inside)

    # Up ---------------------------------------------------------------------------------------------------------------

    def up(self, program: Program) -> None:
        """Daemons in namespaces, joined by the program's own commands."""
        self._write_record()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._network()
        for member in self.members:
            self.start(member)
        for member in self.members:
            _run("lxd", "waitready", "--timeout", "30", environment=member.environment)
        self._join(program)

    def _write_record(self) -> None:
        RECORDS.mkdir(parents=True, exist_ok=True)
        content = {"owner": os.getpid(), "started": _started(os.getpid()), "directory": str(self.directory)}
        self.record.write_text(json.dumps(content))

    def _network(self) -> None:
        _run("ip", "netns", "add", self.switch)
        script = ["link set lo up", "link add sw0 type bridge mcast_snooping 0", f"addr add {SUBNET}.254/24 dev sw0"]
        script.append("link set sw0 up")
        for number, member in enumerate(self.members, 1):
            _run("ip", "netns", "add", member.namespace)
            script.append(f"link add port{number} type veth peer name eth0 netns {member.namespace}")
            script += [f"link set port{number} master sw0", f"link set port{number} up"]
        _batch(self.switch, script)
        for member in self.members:
            lines = ["link set lo up", f"addr add {member.address}/24 dev eth0", "link set eth0 up"]
            _batch(member.namespace, [*lines, f"route add default via {SUBNET}.254"])
            forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
            _run("nsenter", f"--net=/run/netns/{member.namespace}", "sh", "-c", forward)

    def start(self, member: Member) -> None:
        """Start a member's daemon; it lives on when this process ends."""
        member.directory.mkdir(parents=True, exist_ok=True)
        words = ["nsenter", f"--net=/run/netns/{member.namespace}", "unshare", "--mount", "--propagation", "private"]
        environment = {name: value for name, value in os.environ.items() if name != MARK} | member.environment
        with (self.directory / f"{member.name}.log").open("ab") as log:
            self._daemons[member.name] = subprocess.Popen(
                [*words, "bash", "-c", self.script, "sh", str(self.directory / f"{member.name}.sys")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )

    def _join(self, program: Program) -> None:
        first, *others = self.members
        self.program(program, 1)("cluster", "init", "--name", first.name, "--address", first.address)
        for number, member in enumerate(others, 2):
            token = self.program(program, 1)("cluster", "invite", member.name).out.strip()
            self.program(program, number)("cluster", "join", "--address", member.address, stdin=f"{token}\n")

    # Faults -----------------------------------------------------------------------------------------------------------

    def kill(self, member: Member) -> None:
        """End a member's daemon and all of its containers, as a failure of its power would."""
        until = time.monotonic() + PATIENCE
        while found := _processes_of(member):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise TimeoutError(f"{member.name} does not end: {sorted(found)}")
            time.sleep(0.05)
        if member.name in self._daemons:
            self._daemons.pop(member.name).wait()
        _remove_cgroups(member)

    def part(self, member: Member) -> None:
        """Draw its network cable."""
        _batch(self.switch, [f"link set port{self.members.index(member) + 1} down"])

    def mend(self, member: Member) -> None:
        """Put it back."""
        _batch(self.switch, [f"link set port{self.members.index(member) + 1} up"])

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """In this thread alone: on the network of the members, as a client of them is. For threads that end with it."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as own:
            with open(f"/run/netns/{self.switch}", "rb") as there:
                if libc.setns(there.fileno(), _NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(own.fileno(), _NEWNET)

    def reap(self) -> None:
        """Wait for daemons of this process that somebody else ended."""
        for process in self._daemons.values():
            process.wait()
        self._daemons.clear()

    # Down -------------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Remove everything; what is not there any more is no error."""
        for member in self.members:
            if Path(f"/run/netns/{member.namespace}").exists():
                self.kill(member)
            _remove_cgroups(member)
        for namespace in (*(it.namespace for it in self.members), self.switch):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.record.unlink(missing_ok=True)


@dataclass(frozen=True)
class MemberProgram(Program):
    """The program behind words that lead it into a member's namespace."""

    inside: tuple[str, ...] = ()

    def start(
        self, *arguments: str | Path, cwd: Path | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        from tests.conftest import PROGRAM

        return subprocess.Popen(
            [*self.inside, PROGRAM, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=self.whole_environment(),
        )


def new_cluster() -> Cluster:
    """One with a name of its own. Its directory has a short name: names of sockets are."""
    return at_directory(f"{os.getpid():x}", Path(f"/var/tmp/bwc{os.getpid():x}"))


def at_directory(identity: str, directory: Path) -> Cluster:
    return Cluster(identity, directory)


def remove_leftovers(*, also: str = "") -> None:
    """Take down clusters whose makers are gone; with `also` that one in any case."""
    for path in sorted(RECORDS.glob("*.json")):
        try:
            found: Mapping[str, Any] = json.loads(path.read_text())
            alive = _started(found["owner"]) == found["started"]
            directory = Path(found["directory"])
        except (ValueError, KeyError, OSError):
            path.unlink(missing_ok=True)  # killed while it was written: nothing was made yet
            continue
        if path.stem == also or (not alive and path.stem != OWN):
            at_directory(path.stem, directory).down()


def _started(pid: int) -> str:
    """When a process was started, in ticks; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _processes_of(member: Member) -> set[int]:
    """Those in its network namespace, those that its daemon or its containers' monitors started, and their children."""
    try:
        wanted = os.stat(f"/run/netns/{member.namespace}").st_ino
    except OSError:
        return set()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
            if stat[0] in "ZX":
                continue
            parents[pid] = int(stat[1])
            if os.stat(directory / "ns/net").st_ino == wanted:
                found.add(pid)
        except OSError:
            continue  # it has ended meanwhile
    more = found
    while more:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
    return found - {os.getpid()}


def _remove_cgroups(member: Member) -> None:
    """Those that killed monitors left; a container's name is in the path of its directory."""
    containers = member.directory / "containers"
    names = [it.name for it in containers.iterdir()] if containers.is_dir() else []
    for name in names:
        for kind in ("payload", "monitor"):
            for place in (
                *Path("/sys/fs/cgroup").glob(f"*/lxc.{kind}.{name}"),
                *Path("/sys/fs/cgroup").glob(f"lxc.{kind}.{name}"),
            ):
                for directory, _, _ in os.walk(place, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(directory)


def _batch(namespace: str, lines: list[str]) -> None:
    done = subprocess.run(
        ["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip in {namespace}: {done.stderr}")


def _run(*words: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        words,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def status(result: Result) -> dict[str, dict[str, Any]]:
    """Instances by their names in the stack, from what `status --json` printed; the newest generation of each."""
    found = sorted(json.loads(result.out)["instances"], key=lambda it: int(it["generation"]))
    return {f"{it['container']}-{it['number']}": it for it in found}


def main(words: list[str]) -> int:
    """The command line."""
    identity = OWN
    if words not in (["up"], ["down"]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    remove_leftovers(also=identity)
    if words == ["up"]:
        made = at_directory(identity, Path("/var/tmp/bwcown"))
        made.up(Program(made.directory / "store"))
        for member in made.members:
            inside = f"nsenter --net=/run/netns/{member.namespace} env LXD_DIR={member.directory}"
            sys.stdout.write(f"{member.name} {member.address}: {inside} boxwright cluster status\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
