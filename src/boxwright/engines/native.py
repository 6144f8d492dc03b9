"""Natively run containers: each is an image under a copy-on-write layer, a record on the disk and its processes.

There is no daemon. The first process's parent, a small process that the sandbox leaves behind, writes the exit status
into a file; everything else is found out when somebody asks.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from boxwright.engines import processes
from boxwright.engines.forward import GOING_SECONDS, claim, pasta_options
from boxwright.engines.processes import ProcessMark
from boxwright.engines.records import Container, ContainerConfig, ContainerStatus, Records
from boxwright.engines.signals import signal_number
from boxwright.errors import BoxwrightError, MachineError
from boxwright.ports import Bind, Detached, SandboxSpec

OF_CONTAINER = "container:"
"""Before the name of the container whose network is shared."""

STOP_SECONDS = 10.0
LINKED_SECONDS = 60.0
_KILL_SECONDS = 10.0
_LOST = 255  # the exit status where nobody wrote one down


class Streams(NamedTuple):
    """Descriptors that become a container's standard input, output and error."""

    stdin: int
    stdout: int
    stderr: int


class Launcher(Protocol):
    """Starts sandboxes that outlive this process."""

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
        """Start one; its exit status is written to `status_fd` when it ends. `tcp`, `udp`: pasta(1)'s ports.

        `attach` is called with a descriptor of its network before anything runs there, `begin` with what was started
        before its program runs.
        """
        ...


class NativeEngine:
    """The containers of a store. `layers_directory` holds the images' layers."""

    def __init__(self, records: Records, layers_directory: str) -> None:
        self.records = records
        self._layers_directory = layers_directory

    def start(
        self,
        launcher: Launcher,
        config: ContainerConfig,
        streams: Streams,
        attach: Callable[[int], None] | None = None,
    ) -> tuple[Container, int]:
        """Record and start a container whose directory is there; returns it and its terminal, or -1.

        `attach` is given its network before it runs there.
        """
        noted: list[Container] = []
        with self.records.lock("ports"):
            if not config.network.startswith(OF_CONTAINER):
                config = config._replace(ports=claim(config.ports, GOING_SECONDS))
            container = self.records.write_config(config)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            exit_fd = os.open(container.exit_file, flags, 0o600)
            try:
                # Held by whoever may still write the status: the container's parent, once this process has closed it.
                fcntl.flock(exit_fd, fcntl.LOCK_EX)
                spec = self._spec(container)
                tcp, udp = pasta_options(config.ports)
                started = launcher.spawn(
                    spec,
                    streams,
                    status_fd=exit_fd,
                    tcp=tcp,
                    udp=udp,
                    attach=attach,
                    begin=lambda it: noted.append(self._note(container, it)),
                )
            finally:
                os.close(exit_fd)
        return (noted or [self._note(container, started)])[0], started.terminal

    def _note(self, container: Container, started: Detached) -> Container:
        """What runs has a record, whoever is killed."""
        status = ContainerStatus(processes.mark(started.pid), int(time.time()), started.made)
        return self.records.write_status(container, status)

    def _spec(self, container: Container) -> SandboxSpec:
        config = container.config
        return SandboxSpec(
            layers_directory=self._layers_directory,
            lowers=config.layers,
            upper=container.upper,
            work=f"{container.directory}/work" if container.upper else "",
            argv=config.argv,
            env=config.env,
            cwd=config.cwd,
            user=config.user,
            hostname=config.hostname,
            network=self._network(config.network),
            terminal=config.terminal,
            init=config.init,
            mounts=tuple(Bind(mount.source, mount.target, mount.read_only) for mount in config.mounts),
        )

    def _network(self, network: str) -> str:
        """A network as a sandbox takes it."""
        if not network.startswith(OF_CONTAINER):
            return network
        owner = self.running(network.removeprefix(OF_CONTAINER))
        return f"netns:/proc/{owner.status.process.pid if owner.status else 0}/ns/net"

    def running(self, name: str) -> Container:
        """A container that runs. Raises BoxwrightError `container.unknown` or `container.not-running`."""
        container = self.records.get(name)
        if not container.is_running():
            raise BoxwrightError("container.not-running", f"the container {container.name} does not run")
        return container

    def signal(self, container: Container, number: int) -> None:
        """Send its first process a signal. One that it would not notice kills it, so that Ctrl-C always works."""
        if container.status is not None:
            process = container.status.process
            ends = number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
            if ends and not processes.heeds(process, number):
                number = signal.SIGKILL
            _send(container.name, process, number)

    def wait(self, container: Container) -> int:
        """Until it has ended; returns its exit status."""
        if container.status is None:
            return _LOST
        process = container.status.process
        processes.await_end(process)
        return self._exit_code(container)

    def stop(self, container: Container, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, with its image's signal; kill it after `seconds`."""
        self._stop(container, seconds)
        self.stop_linked(container)

    def stop_linked(self, container: Container) -> None:
        """Stop the containers that serve this one, which has ended; the last started first."""
        for name in reversed(container.config.linked):
            if (linked := self.records.find(name)) is not None:
                self._stop(linked, LINKED_SECONDS)

    def _stop(self, container: Container, seconds: float) -> None:
        if container.status is None or not container.is_running():
            return
        process = container.status.process
        number = signal_number(container.config.stop_signal)
        if seconds > 0 and processes.heeds(process, number):
            _send(container.name, process, number)
            if processes.await_end(process, seconds):
                return
        self.kill(container)

    def kill(self, container: Container) -> None:
        """Kill it and wait until it is gone. Raises MachineError `container.stuck`."""
        if container.status is not None:
            _kill(container.name, container.status.process)

    def sweep(self) -> None:
        """Remove what processes that were killed left: half removed containers, `--rm` ones, servers of none."""
        self.records.sweep()
        for container in self.records.stale():
            self.records.discard(container.name)
        for container in self.records.orphans():
            self.kill(container)
            self.records.discard(container.name)

    def kill_damaged(self, name: str) -> None:
        """The same for a container whose record can't be read. Raises StoreError `container.damaged`."""
        if process := self.records.process_of(name):
            _kill(name, process)

    @staticmethod
    def _exit_code(container: Container) -> int:
        code = container.exit_code()
        return _LOST if code is None else code

    def remove(self, container: Container) -> bool:
        """Remove what is left of it. Raises BoxwrightError `container.running`."""
        if container.is_running():
            hint = f"'boxwright stop {container.name}' first, or rm -f"
            raise BoxwrightError("container.running", f"the container {container.name} runs", hint=hint)
        self.stop_linked(container)
        for name in container.config.linked:
            self.records.discard(name)
        return self.records.discard(container.name)

    def inner_process(self, container: Container) -> int:
        """A process of the container whose namespaces an ordinary user may look at (ptrace(2)): no init of ours."""
        pid = container.status.process.pid if container.status else 0
        return (processes.first_child(pid) or pid) if container.config.init else pid


def _kill(name: str, process: ProcessMark) -> None:
    _send(name, process, signal.SIGKILL)
    if not processes.await_end(process, _KILL_SECONDS):
        message = f"the container {name} can't be killed: the kernel holds process {process.pid}"
        raise MachineError("container.stuck", message, hint="look for a hanging file system")


def _send(name: str, process: ProcessMark, number: int) -> None:
    try:
        processes.send(process, number)
    except PermissionError as error:
        raise BoxwrightError("container.denied", f"the container {name} belongs to another user") from error
