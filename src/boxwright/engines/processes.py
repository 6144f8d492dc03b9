"""Which process is meant, across ends of processes and restarts of the machine (proc(5), pidfd_open(2))."""

from __future__ import annotations

import os
import platform
import select
import signal
from typing import NamedTuple

_STATE, _PARENT, _START = 0, 1, 19
"""Places in /proc/PID/stat after the name, which may itself hold blanks and parentheses."""


_SIGTIMEDWAIT = {"x86_64": "128"}.get(platform.machine(), "137")  # the generic table serves arm64, riscv64 and others


class ProcessMark(NamedTuple):
    """A process that no later one can be taken for: its id, when it started (clock ticks), and in which boot."""

    pid: int
    started: int
    boot: str


def mark(pid: int) -> ProcessMark:
    """The mark of a process; `started` is 0, which is nobody's, where it has ended already."""
    fields = _stat(pid)
    return ProcessMark(pid, int(fields[_START]) if fields else 0, boot_id())


def is_alive(process: ProcessMark) -> bool:
    """Whether this very process still runs; a zombie does not."""
    if not process.started or process.boot != boot_id():
        return False
    fields = _stat(process.pid)
    return bool(fields) and int(fields[_START]) == process.started and fields[_STATE] not in "ZX"


def send(process: ProcessMark, number: int) -> bool:
    """Send a signal to this very process; False where it has ended. Raises PermissionError."""
    if not process.started:
        return False
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def await_end(process: ProcessMark, seconds: float | None = None) -> bool:
    """Wait until it has ended, at most `seconds`; returns whether it has."""
    if not process.started:
        return True
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(process):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))
    finally:
        os.close(descriptor)


def heeds(process: ProcessMark, number: int) -> bool:
    """Whether a PID namespace's first process would notice a signal.

    The kernel drops a signal to it that it neither catches nor blocks (pid_namespaces(7)). One that it is waiting for,
    as small init programs do, is shown as not blocked (sigtimedwait(2)).
    """
    bit = 1 << (number - 1)
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as lines:
            masks = dict(line.split(":", 1) for line in lines if line.startswith(("SigBlk", "SigCgt")))
    except (FileNotFoundError, ProcessLookupError):
        return True
    return any(int(mask, 16) & bit for mask in masks.values()) or _waits_for_signals(process.pid)


def _waits_for_signals(pid: int) -> bool:
    """Whether it is in rt_sigtimedwait(2); True where nobody tells (proc(5), `syscall`)."""
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] == _SIGTIMEDWAIT
    except OSError:
        return True


def parent_of(pid: int) -> int:
    """Its parent's id, 0 where it has ended."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def first_child(pid: int) -> int:
    """The id of its oldest child, 0 where it has none."""
    children: list[tuple[int, int]] = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            fields = _stat(int(name))
            if fields and int(fields[_PARENT]) == pid:
                children.append((int(fields[_START]), int(name)))
    return min(children)[1] if children else 0


def boot_id() -> str:
    """The kernel's name for this start of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
