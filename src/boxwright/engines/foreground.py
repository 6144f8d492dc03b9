"""A container in the foreground: the user's streams, terminal and signals are its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from boxwright.engines.guard import DONE
from boxwright.engines.native import NativeEngine, Streams
from boxwright.engines.records import Container
from boxwright.engines.signals import FORWARDED
from boxwright.engines.streams import copy_until_end

Guard = Callable[[NativeEngine, Container, int], int]
"""Forks a guard, which keeps no descriptor but its end of the lifeline; returns its process id."""


Begin = Callable[[Streams], tuple[NativeEngine, Container, int]]
"""Starts the container with these streams; its terminal or -1 comes with it."""


class TerminalBridge(Protocol):
    """Connects the user's terminal with a container's until that has ended."""

    def __call__(self, control: int, user: tuple[int, int], ended: int) -> None:
        """`control` is the container's side, which is closed; the pidfd `ended` is readable when it has ended."""
        ...


def run_in_foreground(begin: Begin, guard: Guard, bridge: TerminalBridge, *, stdin: bool) -> int:
    """Run a container to its end; returns its exit status. For the main thread of a process with one thread."""
    output, errors = os.pipe(), os.pipe()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        engine, container, terminal = begin(Streams(0 if stdin else null, output[1], errors[1]))
        for fd in (output[1], errors[1], null):
            os.close(fd)
        lifeline, ours = os.pipe()
        guard_pid = guard(engine, container, lifeline)
        os.close(lifeline)
        with _forwarding(engine, container):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            if terminal >= 0:
                _attend_terminal(container, terminal, bridge)
            else:
                _attend(container, {output[0]: 1, errors[0]: 2})
            code = engine.wait(container)
            engine.stop_linked(container)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    with suppress(BrokenPipeError):  # the guard was killed
        os.write(ours, DONE)
    os.close(ours)
    os.waitpid(guard_pid, 0)
    if container.config.auto_remove:
        engine.remove(container)
    return code


@contextmanager
def _forwarding(engine: NativeEngine, container: Container) -> Iterator[None]:
    def forward(number: int, _: FrameType | None) -> None:
        engine.signal(container, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _attend(container: Container, pipes: dict[int, int]) -> None:
    ended = _ended(container)
    log = os.open(container.log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        copy_until_end(pipes, log, ended)
    finally:
        for fd in (ended, log, *pipes):
            os.close(fd)


def _ended(container: Container) -> int:
    """A descriptor that is readable when the container has ended."""
    if container.status is not None and container.is_running():
        try:
            return os.pidfd_open(container.status.process.pid)
        except ProcessLookupError:
            pass  # it has ended meanwhile
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # always readable (poll(2))


def _attend_terminal(container: Container, control: int, bridge: TerminalBridge) -> None:
    """Connect the user's terminal; a thread keeps the log."""
    ended = _ended(container)
    readable, writable = os.pipe()
    stopped, stop = os.pipe()
    log = os.open(container.log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    keeper = threading.Thread(target=copy_until_end, args=({readable: 1}, log, stopped), daemon=True)
    keeper.start()
    try:
        bridge(control, (0, writable), ended)
    finally:
        os.close(writable)
        os.close(stop)
        keeper.join()
        for fd in (ended, log, readable, stopped):
            os.close(fd)
