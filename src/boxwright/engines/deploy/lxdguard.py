"""Stops a member's own instances when its cluster has lost its quorum: others may start them from copies.

Without a quorum LXD answers nothing that it would have to look up, so the containers' processes are ended directly.
What LXD runs here is told by its monitors' command lines (``[lxc monitor] DIRECTORY NAME``, lxc's src/lxc/start.c and
lxccontainer.c), whose child is the container's first process: when that is gone, the kernel ends the others.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.transport import Patience
from boxwright.model.volumes import RENEWED_SECONDS

_LOOK_SECONDS = 1.0
_ANSWER = Patience(2.0)
_MONITOR = b"[lxc monitor] "


class Running(NamedTuple):
    """A container of LXD's on this machine: its name there, and its first process."""

    name: str
    pid: int


class Guard:
    """One stack on the member whose LXD is asked.

    It counts the seconds since the beginning of the last question that the cluster's database answered; after `seconds`
    it asks the instances to end, and kills them `grace` later. Who has never had an answer may come after one that was
    killed, whose time is not known: he waits for the grace alone. `register` writes down whether this member is guarded
    for the next `PROMISED_SECONDS`, beside what looks: it may hang just when the quorum is lost.
    """

    def __init__(
        self,
        client: LxdClient,
        stack: str,
        seconds: float,
        grace: float,
        register: Callable[[bool], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._stack = stack
        self._seconds = seconds
        self._grace = grace
        self._register = register
        self._tell = tell
        self._stake: Collection[str] | None = None
        self._registered: bool | None = None
        self._has_answer = False
        self._sent: set[tuple[int, int]] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=it, daemon=True) for it in (self._go_on, self._keep_noting)]

    def start(self) -> None:
        """From now on, until `end`."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No more."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._stake = ()
        self._note_quietly()

    def note(self, stake: Collection[str]) -> None:
        """Which containers others may take over; until that is said, all of the stack's count."""
        self._stake = frozenset(stake)

    def _keep_noting(self) -> None:
        while True:
            if self._has_answer:
                self._note_quietly()
            if self._ended.wait(RENEWED_SECONDS):
                return

    def _note_quietly(self) -> None:
        wanted = bool(self._stake)
        if self._stake is not None and (wanted or self._registered is not wanted):
            with suppress(LxdError):
                self._register(wanted)
                self._registered = wanted

    def _go_on(self) -> None:
        # As if the last answer were so old that half of the grace is left until they are stopped.
        answered = time.monotonic() - self._seconds + self._grace / 2
        until_killed = self._grace / 2
        while True:
            began = time.monotonic()
            self._has_answer = self._has_quorum()
            if self._has_answer:
                answered, until_killed = began, self._grace
                self._sent.clear()
            silent = time.monotonic() - answered
            if silent >= self._seconds:
                self._stop(kill=silent >= self._seconds + until_killed)
            if self._ended.wait(_LOOK_SECONDS):
                return

    def _has_quorum(self) -> bool:
        """Whether the database answers: reading goes by its leader, which gives up where it leads no majority."""
        try:
            self._client.request("GET", "/projects", patience=_ANSWER)
        except LxdError:
            return False
        return True

    def _stop(self, *, kill: bool) -> None:
        number, how = (signal.SIGKILL, "killed") if kill else (signal.SIGTERM, "stopped")
        for it in containers_of(self._client.endpoint.socket, self._stack):
            meant = self._stake is None or container_of(it.name, self._stack) in self._stake
            if meant and (it.pid, number) not in self._sent:
                self._sent.add((it.pid, number))
                with suppress(ProcessLookupError):
                    os.kill(it.pid, number)
                self._tell(it.name.rpartition("_")[2], f"it is {how}: the cluster has had no quorum here")


def container_of(name: str, stack: str) -> str:
    """The container of a stack whose instance LXD calls ``boxwright-STACK_STACK-CONTAINER-NUMBER-gGENERATION``."""
    instance = name.removeprefix(f"boxwright-{stack}_{stack}-")
    return instance.rpartition("-g")[0].rpartition("-")[0]


def containers_of(endpoint: str, stack: str) -> list[Running]:
    """The containers of a stack that the LXD behind a socket runs, as the kernel shows them."""
    directory = os.fsencode(f"{os.path.dirname(endpoint)}/containers")
    prefix = f"boxwright-{stack}_"
    monitors: dict[int, str] = {}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        with suppress(OSError, ValueError):
            with open(f"/proc/{entry}/stat", "rb") as file:
                parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                title, _, where = file.read(4096).partition(b"\0")[0].partition(_MONITOR)
            place, _, name = where.partition(b" ")
            if not title and place == directory and name.decode().startswith(prefix):
                monitors[int(entry)] = name.decode()
    children = [(pid, parent) for pid, parent in sorted(parents.items()) if parent in monitors]
    return [Running(monitors[parent], pid) for pid, parent in children if _is_first(pid)]


def _is_first(pid: int) -> bool:
    """Whether it is the first process of a namespace; the monitor has other children too, which tell LXD of its end."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        numbers = next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])
        return len(numbers) > 1 and numbers[-1] == "1"
    return False
