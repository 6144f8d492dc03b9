"""The launcher's own process: single-threaded, forked early, it forks a sandbox's first process for each request.

It listens on a socket whose other end only the main process has. Each request comes with a session socket: reports go
back over it, and when its other end is closed the sandbox is killed. When the main process is gone, so is everything
but detached sandboxes.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from boxwright.files import close_others
from boxwright.sandbox import descriptors, network, process, syscalls
from boxwright.sandbox.children import never_return
from boxwright.sandbox.request import (
    ATTACHED_RUN,
    EnterRequest,
    Exited,
    Failed,
    NetworkRequest,
    Ready,
    Request,
    RunRequest,
    decode_request,
    encode,
)

_MESSAGE: Final = 4096
_KINDS: Final = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWCGROUP
)


@dataclass(slots=True)
class _Sandbox:
    pid: int
    pidfd: int
    session: socket.socket
    is_first: bool
    alive: bool = True


class Server:
    """The loop and what it knows: one `_Sandbox` under the descriptors of its process and of its session."""

    def __init__(self, control: socket.socket, machine: process.Machine, stage: str) -> None:
        self._control = control
        self._machine = machine
        self._stage = stage
        self._spare: tuple[int, socket.socket] | None = None
        self._own_pids = _own_pids()
        self._poll = select.poll()
        self._by_fd: dict[int, _Sandbox] = {}

    def serve(self) -> NoReturn:
        """Until the main process is gone; then kill what still runs."""
        self._poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    if not self._accept():
                        self._end()
                elif sandbox := self._by_fd.get(fd):
                    if fd == sandbox.pidfd:
                        self._reap(sandbox)
                    else:
                        self._kill(sandbox)

    def _end(self) -> NoReturn:
        attached = (sandbox for fd, sandbox in self._by_fd.items() if fd == sandbox.pidfd)
        running = [sandbox for sandbox in attached if sandbox.session.fileno() >= 0]
        for sandbox in running:
            self._kill(sandbox)
        for sandbox in running:
            os.waitpid(sandbox.pid, 0)
        if self._spare:
            self._spare[1].close()
            os.waitpid(self._spare[0], 0)
        os._exit(0)

    def _accept(self) -> bool:
        data, fds = descriptors.receive(self._control, _MESSAGE)
        if not data:
            return False
        session = socket.socket(fileno=fds[0])
        try:
            if data == ATTACHED_RUN:
                self._watch(self._hand_over(fds), session, is_first=self._own_pids >= 0)
            else:
                with mmap.mmap(fds[1], 0, prot=mmap.PROT_READ) as content:
                    request = decode_request(content[:])
                self._launch(request, session, fds[2:])
        except OSError as error:
            self._refuse(session, error)
        finally:
            for fd in fds[1:]:
                os.close(fd)
        if data == ATTACHED_RUN and not self._spare:
            self._spare = self._prepare()
        return True

    def _refuse(self, session: socket.socket, error: OSError) -> None:
        failed = Failed("sandbox.launch", f"a sandbox can't be started: {error.strerror}", "", "machine")
        with suppress(OSError):  # nobody waits for it any more
            session.send(encode(failed))
            session.send(encode(Exited(0)))
        session.close()

    def _hand_over(self, fds: list[int]) -> int:
        """To the process that waits for it, or to a new one; returns its id."""
        if self._spare:
            pid, feed = self._spare
            self._spare = None
            with feed:
                try:
                    socket.send_fds(feed, [ATTACHED_RUN], fds)
                except OSError:
                    os.waitpid(pid, 0)  # it was killed meanwhile
                else:
                    return pid
        pid, feed = self._prepare()
        with feed:
            socket.send_fds(feed, [ATTACHED_RUN], fds)
        return pid

    def _prepare(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def body() -> NoReturn:
            ours.close()
            self._forget_others()
            process.wait_and_run(theirs, self._stage, self._machine)

        with theirs:
            return self._fork(body), ours

    def _forget_others(self) -> None:
        """In a child: while a socket is open elsewhere, its other end doesn't see it close."""
        for fd in (self._control.fileno(), *self._by_fd):
            os.close(fd)
        if self._spare:
            self._spare[1].close()

    def _fork(self, body: Callable[[], NoReturn]) -> int:
        """A first process of a new PID namespace; in a user namespace, a relay with such a child."""
        if self._own_pids < 0:
            pid = os.fork()
            if pid == 0:
                never_return(lambda: _relay(lambda: syscalls.unshare(syscalls.CLONE_NEWPID), body))
            return pid
        syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                never_return(body)
        finally:
            syscalls.setns(self._own_pids, syscalls.CLONE_NEWPID)
        return pid

    def _launch(self, request: Request, session: socket.socket, fds: list[int]) -> None:
        if isinstance(request, EnterRequest):
            pid = os.fork()
            if pid == 0:
                never_return(lambda: self._enter(request, session, fds))
            self._watch(pid, session, is_first=False)
        elif request.detached:
            pid = os.fork()
            if pid == 0:
                never_return(lambda: self._keep(request, session, fds))
            session.close()  # its other holders are the sandbox's own processes
            self._watch(pid, session, is_first=False)
        else:
            assert isinstance(request, NetworkRequest)  # noqa: S101  for the type checker: a run was handed over
            asked = request

            def body() -> NoReturn:
                self._forget_others()
                network.keep(asked, session, fds)

            pid = self._fork(body)
            self._watch(pid, session, is_first=self._own_pids >= 0)

    def _enter(self, request: EnterRequest, session: socket.socket, fds: list[int]) -> NoReturn:
        self._forget_others()
        _enter(request, session, fds, self._machine)

    def _keep(self, request: RunRequest | NetworkRequest, session: socket.socket, fds: list[int]) -> NoReturn:
        self._forget_others()
        _keep(request, session, fds, self._machine)

    def _watch(self, pid: int, session: socket.socket, *, is_first: bool) -> None:
        sandbox = _Sandbox(pid, os.pidfd_open(pid), session, is_first)
        self._by_fd[sandbox.pidfd] = sandbox
        self._poll.register(sandbox.pidfd, select.POLLIN)
        if session.fileno() >= 0:
            self._by_fd[session.fileno()] = sandbox
            self._poll.register(session, select.POLLIN)

    def _kill(self, sandbox: _Sandbox) -> None:
        """Once: the session is no longer looked at, the process's end is."""
        if sandbox.alive:
            sandbox.alive = False
            if self._by_fd.pop(sandbox.session.fileno(), None):
                self._poll.unregister(sandbox.session)
                signal.pidfd_send_signal(sandbox.pidfd, signal.SIGKILL if sandbox.is_first else signal.SIGTERM)

    def _reap(self, sandbox: _Sandbox) -> None:
        _, status = os.waitpid(sandbox.pid, 0)
        self._poll.unregister(sandbox.pidfd)
        del self._by_fd[sandbox.pidfd]
        os.close(sandbox.pidfd)
        if sandbox.session.fileno() < 0:
            return
        if self._by_fd.pop(sandbox.session.fileno(), None):
            self._poll.unregister(sandbox.session)
        with suppress(OSError):  # nobody waits for it any more
            sandbox.session.send(encode(Exited(status)))
        sandbox.session.close()


def _first(
    request: RunRequest | NetworkRequest, session: socket.socket, fds: list[int], machine: process.Machine
) -> NoReturn:
    if isinstance(request, RunRequest):
        process.run(request, session, fds, machine)
    network.keep(request, session, fds)


def _keep(
    request: RunRequest | NetworkRequest, session: socket.socket, fds: list[int], machine: process.Machine
) -> NoReturn:
    """A detached sandbox's parent: outlives the launcher, and writes the exit status to the last descriptor."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    syscalls.unshare(syscalls.CLONE_NEWPID)
    status_fd, lifeline = fds.pop(), fds.pop()
    pid = os.fork()
    if pid == 0:
        os.close(status_fd)
        if isinstance(request, RunRequest):
            os.close(lifeline)
        else:
            fds.append(lifeline)
        never_return(lambda: _first(request, session, fds, machine))
    if isinstance(request, RunRequest):
        session.send(encode(Ready(pid)))
    session.close()
    for fd in fds:
        os.close(fd)
    # The lifeline stays open until here: the network's processes end when this one does.
    close_others(status_fd, lifeline if isinstance(request, RunRequest) else -1)
    _, status = os.waitpid(pid, 0)
    os.write(status_fd, f"{process.exit_code(status)}\n".encode())
    os._exit(0)


def _enter(request: EnterRequest, session: socket.socket, fds: list[int], machine: process.Machine) -> NoReturn:
    def join() -> None:
        try:
            syscalls.setns(os.pidfd_open(request.pid), _KINDS)
        except OSError as error:
            message = f"the container's process {request.pid} can't be joined: {error.strerror}"
            session.send(encode(Failed("sandbox.enter", message, "it may have ended: see `boxwright ps`", "machine")))
            os._exit(125)

    _relay(join, lambda: process.enter(request, session, fds, machine))


def _relay(change: Callable[[], None], body: Callable[[], NoReturn]) -> NoReturn:
    """A process between the launcher and the sandbox's: a PID namespace is entered by children only (setns(2)).

    SIGTERM, which also comes when the launcher dies, kills the child: that works for whatever the child has become.
    """
    watched = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    # What is in there may not look into this process, whose program is the host's (ptrace(2), "access mode checking").
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    change()
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
        never_return(body)
    close_others()
    while True:
        if signal.sigwait(watched) == signal.SIGTERM:
            os.kill(pid, signal.SIGKILL)
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            os._exit(process.exit_code(status))


def _own_pids() -> int:
    """The PID namespace of this process, or -1 where it may not come back to it, as it is an outer one's."""
    fd = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWPID)
    except PermissionError:
        os.close(fd)
        return -1
    return fd
