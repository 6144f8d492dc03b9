"""The launcher as the main process sees it: any thread may run a sandbox through it."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from boxwright.errors import StoreError
from boxwright.files import close_others, write_all
from boxwright.ports import Bind, Detached, ExitStatus, SandboxSpec
from boxwright.sandbox import capabilities, cgroups, channel, network, process, seccomp, skeleton, terminal
from boxwright.sandbox.attached import Attached, remove_made
from boxwright.sandbox.children import never_return
from boxwright.sandbox.pool import NetworkPool
from boxwright.sandbox.request import GO, EnterRequest, Exited, Failed, Made, Prepared, Ready, RunRequest, Terminal
from boxwright.sandbox.server import Server

_RESOLVER: Final = Path("/etc/resolv.conf")
_NAMED_NETWORK: Final = "netns:"


class Launcher:
    """Starts sandboxes from a small process that was forked before the main one had threads."""

    def __init__(self, control: socket.socket, pid: int, cache: Path, *, user_namespace: bool) -> None:
        self._control = control
        self._pid = pid
        self._cache = cache
        self._user_namespace = user_namespace
        self._networks = NetworkPool(control, self._root)
        self._skeleton = ""
        self._resolvers: dict[str, str] = {}

    @classmethod
    def start(cls, cache: Path) -> Launcher:
        """Fork the launcher. Call it early, while this process has one thread; `cache` is this user's."""
        cache = cache.absolute()
        try:
            for name in ("root", "stage/proc", "stage/dev"):
                (cache / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("sandbox.cache", f"{cache} can't be made: {error.strerror}") from error
        machine = process.Machine(
            seccomp.program(cache, capabilities.DEFAULT), capabilities.last(), capabilities.held()
        )  # fmt: skip
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            never_return(lambda: _become_server(theirs, machine, str(cache / "stage")))
        theirs.close()
        own_map = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        return cls(ours, pid, cache, user_namespace=own_map != ["0", "0", "4294967295"])

    @property
    def _root(self) -> str:
        """The empty directory that sandboxes mount their root on, each in its own mount namespace."""
        return f"{self._cache}/root"

    def prepare_network(self) -> None:
        """Have a network made meanwhile, for the first sandbox that wants one."""
        self._networks.prepare()

    def close(self) -> None:
        """End the launcher, and with it every sandbox but detached ones."""
        self._networks.close()
        self._control.close()
        os.waitpid(self._pid, 0)

    def run(
        self,
        spec: SandboxSpec,
        output: Callable[[bytes], None],
        cancelled: Callable[[], bool],
        stdin: int | None = None,
    ) -> ExitStatus:
        """Run a process to its end. `output` and `cancelled` are called in the calling thread.

        Its standard input is `stdin`, else empty.
        """
        with (
            self._network(spec.network, spec.security) as network_fds,
            cgroups.below(spec.cgroup_parent) as groups,
        ):
            request = dataclasses.replace(self._request(spec), cgroups=groups) if groups else self._request(spec)
            readable, writable = os.pipe()
            null = os.open(os.devnull, os.O_RDONLY)
            streams = [null if stdin is None else stdin, writable, writable]
            try:
                session = channel.send(self._control, request, [*streams, *network_fds])
            except BaseException:
                os.close(readable)
                raise
            finally:
                os.close(writable)
                os.close(null)
            with session:
                return Attached(spec, session, readable).wait(output, cancelled)

    def interactive(self, spec: SandboxSpec, fds: tuple[int, int, int] = (0, 1, 2)) -> ExitStatus:
        """Run with the user's own standard streams, or with a terminal connected to them. For the main thread."""
        with self._network(spec.network, spec.security) as network_fds:
            session = channel.send(self._control, self._request(spec), [*fds, *network_fds])
            with session:
                status, made = terminal.attend(session, fds[:2], terminal=spec.terminal)
        remove_made(spec.upper, made)
        return ExitStatus(process.exit_code(status))

    def spawn(
        self,
        spec: SandboxSpec,
        streams: tuple[int, int, int],
        *,
        status_fd: int | None = None,
        tcp: Sequence[str] = (),
        udp: Sequence[str] = (),
        attach: Callable[[int], None] | None = None,
        begin: Callable[[Detached], None] | None = None,
    ) -> Detached:
        """Start a sandbox that goes on when this process ends, with these standard streams.

        Its exit status, as a line, goes to `status_fd` when it ends. `tcp` and `udp` are pasta(1)'s port specifications
        for a network of its own. `attach` is called with a descriptor of its network before anything runs there,
        `begin` with what was started before its program runs: where this process is killed before that returns, it
        never does.
        """
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        alive, lifeline = os.pipe()
        network_fds: list[int] = []
        try:
            if spec.network == "default":
                asked = network.request(self._root, tcp=tcp, udp=udp, detached=True)
                with channel.send(self._control, asked, [alive, null, null]) as session:
                    network_fds = channel.expect(session)[1]
            elif spec.network.startswith(_NAMED_NETWORK):
                network_fds = [os.open(spec.network.removeprefix(_NAMED_NETWORK), os.O_RDONLY)]
            elif spec.network == "none" and attach is not None:
                network_fds = [network.isolated()]
            if attach is not None and network_fds:
                attach(network_fds[0])
            ends = [lifeline, null if status_fd is None else status_fd]
            request = dataclasses.replace(self._request(spec), detached=True)
            with channel.send(self._control, request, [*streams, *network_fds, *ends]) as session:
                return _await_start(session, begin)
        finally:
            for fd in (null, alive, lifeline, *network_fds):
                os.close(fd)

    def enter(
        self,
        pid: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str = "/",
        user: str = "",
        security: str = "sandbox",
        on_terminal: bool = False,
        fds: tuple[int, int, int] = (0, 1, 2),
    ) -> ExitStatus:
        """Run a further process in the sandbox whose first process is `pid`, with these standard streams."""
        request = EnterRequest(pid, tuple(argv), tuple(env.items()), cwd, user, security, on_terminal)
        with channel.send(self._control, request, list(fds)) as session:
            status, _ = terminal.attend(session, fds[:2], terminal=on_terminal)
        return ExitStatus(process.exit_code(status))

    def capture(
        self,
        pid: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        output: Callable[[bytes], None],
        time_limit: float,
        stdin: bytes = b"",
    ) -> ExitStatus:
        """Run a further process as root in the sandbox whose first process is `pid`, handing on what it writes.

        For any thread. It is killed after `time_limit` seconds. `stdin` is all that it can read.
        """
        request = EnterRequest(pid, tuple(argv), tuple(env.items()), "/", "", "sandbox", terminal=False)
        readable, writable = os.pipe()
        null = os.memfd_create("stdin", os.MFD_CLOEXEC) if stdin else os.open(os.devnull, os.O_RDONLY)
        if stdin:
            write_all(null, stdin)
            os.lseek(null, 0, os.SEEK_SET)
        try:
            session = channel.send(self._control, request, [null, writable, writable])
        except BaseException:
            os.close(readable)
            raise
        finally:
            os.close(writable)
            os.close(null)
        with session:
            spec = SandboxSpec("", (), "", "", tuple(argv), (), time_limit=time_limit)
            return Attached(spec, session, readable).wait(output, lambda: False)

    @contextmanager
    def network(self, kind: str, security: str) -> Iterator[str]:
        """A network of this kind for several sandboxes at once, as `SandboxSpec.network` names it."""
        if kind not in ("none", "default"):
            yield kind
        elif kind == "none":
            alone = network.isolated()
            try:
                yield f"{_NAMED_NETWORK}/proc/self/fd/{alone}"
            finally:
                os.close(alone)
        else:
            with self._network(kind, security) as fds:
                yield f"{_NAMED_NETWORK}/proc/self/fd/{fds[0]}"

    @contextmanager
    def _network(self, kind: str, security: str) -> Iterator[list[int]]:
        if kind.startswith(_NAMED_NETWORK):
            fd = os.open(kind.removeprefix(_NAMED_NETWORK), os.O_RDONLY)
            try:
                yield [fd]
            finally:
                os.close(fd)
        elif kind != "default":
            yield []
        else:
            taken = self._networks.take()
            try:
                yield [taken.fd]
            finally:
                if security == "insecure":
                    taken.close()  # it could change the network's rules: nobody gets it after that
                else:
                    self._networks.give_back(taken)

    def _request(self, spec: SandboxSpec) -> RunRequest:
        """What the server is sent for `spec`."""
        mounts = tuple(
            entry._replace(source=os.path.realpath(entry.source)) if isinstance(entry, Bind) else entry
            for entry in spec.mounts
        )
        return RunRequest(
            spec=spec._replace(mounts=mounts) if mounts else spec,
            skeleton=skeleton.ensure(self._cache, mounts) if mounts else self._plain_skeleton(),
            root=self._root,
            stage=f"{self._cache}/stage",
            resolver=self._resolver(spec.network),
            user_namespace=self._user_namespace,
        )

    def _plain_skeleton(self) -> str:
        if not self._skeleton:
            self._skeleton = skeleton.ensure(self._cache, ())
        return self._skeleton

    def _resolver(self, kind: str) -> str:
        """The text of /etc/resolv.conf; read once, so that all steps of a build see the same."""
        if kind not in self._resolvers:
            try:
                host = _RESOLVER.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                host = ""
            self._resolvers[kind] = network.resolver(host, kind)
        return self._resolvers[kind]


def _await_start(session: socket.socket, begin: Callable[[Detached], None] | None) -> Detached:
    """Until the session closes, which execve(2) does."""
    started, prepared = Detached(0), False
    while True:
        try:
            report, fds = channel.receive(session)
        except channel.GoneError:
            if started.pid:
                return started
            raise
        if isinstance(report, Failed):
            raise report.error()
        if isinstance(report, Made):
            started = started._replace(made=report.paths)
        elif isinstance(report, Ready):
            started = started._replace(pid=report.pid)
        elif isinstance(report, Terminal):
            started = started._replace(terminal=fds[0])
        elif isinstance(report, Prepared):
            prepared = True
        elif isinstance(report, Exited):
            return started
        if prepared and started.pid:
            prepared = False
            if begin is not None:
                begin(started)
            with suppress(OSError):  # it was killed meanwhile, which the next report says
                session.send(GO)


def _become_server(control: socket.socket, machine: process.Machine, stage: str) -> NoReturn:
    gc.disable()
    gc.freeze()
    os.setsid()
    close_others(control.fileno())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    Server(control, machine, stage).serve()
