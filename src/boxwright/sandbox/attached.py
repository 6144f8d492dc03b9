"""A sandbox that the calling thread waits for: its output, its time limit, and what is cleaned up after it."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from boxwright.ports import ExitStatus, SandboxSpec
from boxwright.sandbox import channel, process
from boxwright.sandbox.request import KILL, Exited, Failed, Made, Report, Terminal

_POLL_MS: Final = 50
_CHUNK: Final = 1 << 16
_KILLED: Final = 128 + signal.SIGKILL


class Attached:
    """One run, seen from the calling thread."""

    def __init__(self, spec: SandboxSpec, session: socket.socket, output_fd: int) -> None:
        self._spec = spec
        self._session = session
        self._output_fd = output_fd
        self._made: tuple[tuple[str, bool], ...] = ()
        self._failed: Failed | None = None
        self._status: int | None = None
        self._poll = select.poll()

    def wait(self, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
        """Hand on what it writes until it ends, or kill it."""
        deadline = time.monotonic() + self._spec.time_limit if self._spec.time_limit else None
        killed = timed_out = False
        self._poll.register(self._session, select.POLLIN)
        self._poll.register(self._output_fd, select.POLLIN)
        try:
            while self._status is None:
                for fd, _ in self._poll.poll(_POLL_MS):
                    if fd == self._session.fileno():
                        self._take(*channel.receive(self._session))
                    else:
                        self._read(output)
                if not killed and self._status is None:
                    timed_out = deadline is not None and time.monotonic() > deadline
                    killed = timed_out or cancelled()
                    if killed:
                        self._kill()
            self._drain(output)
        finally:
            remove_made(self._spec.upper, self._made)
            os.close(self._output_fd)
        if self._failed:
            raise self._failed.error()
        return ExitStatus(_KILLED if killed else process.exit_code(self._status), timed_out=timed_out)

    def _kill(self) -> None:
        try:
            self._session.send(KILL)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has just ended by itself; the report says so

    def _take(self, report: Report, fds: list[int]) -> None:
        if isinstance(report, Exited):
            self._status = report.status
        elif isinstance(report, Failed):
            self._failed = report
        elif isinstance(report, Made):
            self._made = report.paths
        elif isinstance(report, Terminal):
            self._poll.unregister(self._output_fd)
            os.close(self._output_fd)
            self._output_fd = fds[0]
            self._poll.register(self._output_fd, select.POLLIN)

    def _read(self, output: Callable[[bytes], None]) -> None:
        if data := read_or_end(self._output_fd):
            output(data)
        else:
            self._poll.unregister(self._output_fd)

    def _drain(self, output: Callable[[bytes], None]) -> None:
        os.set_blocking(self._output_fd, False)
        try:
            while data := read_or_end(self._output_fd):
                output(data)
        except BlockingIOError:
            return  # a descriptor of it is still open somewhere, which can't keep the result waiting


def read_or_end(fd: int) -> bytes:
    """What is there, empty at the end; a terminal without a process says EIO for that (pty(7))."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        raise
    except OSError:
        return b""


def remove_made(upper: str, made: tuple[tuple[str, bool], ...]) -> None:
    """Take mount points out of an upper directory again that are still empty; their parents' times stay."""
    if not upper:
        return
    for path, is_directory in reversed(made):
        place = upper + path
        parent = os.path.dirname(place)
        try:
            found = os.lstat(place)
            before = os.stat(parent)
            if is_directory:
                os.rmdir(place)
            elif found.st_size == 0:
                os.unlink(place)
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        except OSError:
            continue  # used meanwhile, or gone: then it is the step's own
