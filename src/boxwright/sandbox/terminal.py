"""The user's terminal, connected to a sandbox's own: keys go in, output comes out, the size follows.

The sandbox gets a pseudo-terminal of its own and never the user's, in which it could put keystrokes (TIOCSTI).
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from boxwright.sandbox import channel
from boxwright.sandbox.attached import read_or_end
from boxwright.sandbox.request import Exited, Failed, Made, Terminal

_CHUNK: Final = 4096


def attend(
    session: socket.socket, user: tuple[int, int], *, terminal: bool
) -> tuple[int, tuple[tuple[str, bool], ...]]:
    """Until it ends; returns waitpid(2)'s status and what was made to mount on.

    `user` are input and output; without `terminal` the sandbox holds them itself and nothing is copied.
    """
    control = -1
    made: tuple[tuple[str, bool], ...] = ()
    failed: Failed | None = None
    poll = select.poll()
    poll.register(session, select.POLLIN)
    with _raw(user[0] if terminal else -1), _resizing() as resized:
        poll.register(resized, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == session.fileno():
                    report, fds = channel.receive(session)
                    if isinstance(report, Terminal):
                        control = fds[0]
                        _copy_size(user[0], control)
                        poll.register(control, select.POLLIN)
                        poll.register(user[0], select.POLLIN)
                    elif isinstance(report, Made):
                        made = report.paths
                    elif isinstance(report, Failed):
                        failed = report
                    elif isinstance(report, Exited):
                        _finish(control, user[1])
                        if failed:
                            raise failed.error()
                        return report.status, made
                elif fd == resized:
                    os.read(resized, _CHUNK)
                    _copy_size(user[0], control)
                elif not _pass_on(fd, control, user):
                    poll.unregister(fd)


def connect(control: int, user: tuple[int, int], ended: int) -> None:
    """Connect a terminal with that of a detached sandbox until the pidfd `ended` is readable; closes `control`."""
    poll = select.poll()
    with _raw(user[0]), _resizing() as resized:
        _copy_size(user[0], control)
        for fd in (control, user[0], resized, ended):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == ended:
                    _finish(control, user[1])
                    return
                if fd == resized:
                    os.read(resized, _CHUNK)
                    _copy_size(user[0], control)
                elif not _pass_on(fd, control, user):
                    poll.unregister(fd)


def _pass_on(fd: int, control: int, user: tuple[int, int]) -> bool:
    """What came in on `fd`, to the other side; False at its end."""
    source, target = (control, user[1]) if fd == control else (user[0], control)
    data = read_or_end(source)
    if data:
        _write(target, data)
    return bool(data)


def _finish(control: int, output: int) -> None:
    if control >= 0:
        os.set_blocking(control, False)
        try:
            while data := read_or_end(control):
                _write(output, data)
        except BlockingIOError:
            pass  # all was read
        os.close(control)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy_size(source: int, target: int) -> None:
    if target >= 0 and os.isatty(source):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    if fd < 0 or not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resizing() -> Iterator[int]:
    """A descriptor that has something to read when the user's terminal changed its size."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def note(number: int, _frame: FrameType | None) -> None:
        os.write(writable, bytes([number]))

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield readable
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(readable)
        os.close(writable)
