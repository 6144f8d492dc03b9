"""Stacks on this program's own engine: containers of the store, bridges, named volumes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from boxwright.app.containers import engine_of
from boxwright.app.lookup import find_image
from boxwright.app.placing import make_layer, open_log
from boxwright.app.stacks.local import LocalStacks, entries
from boxwright.app.stacks.networks import StackNetworks
from boxwright.app.stacks.places import (
    HOSTS,
    one_host_lacks,
    rewrite_file,
    volume_option,
    write_files,
)
from boxwright.deploy.engine import Executed, State
from boxwright.engines.bridges import machine_subnets
from boxwright.engines.documents import StackDirectory
from boxwright.engines.exchange import exchange
from boxwright.engines.forward import Forward
from boxwright.engines.native import NativeEngine, Streams
from boxwright.engines.nftrules import RULES, read_rules, write_rules
from boxwright.engines.records import Container, ContainerConfig, Mounted
from boxwright.engines.streams import read_log
from boxwright.engines.volumes import Volumes
from boxwright.model.deployment import (
    CREATED,
    LABEL,
    LOST,
    RUNNING,
    STOPPED,
    Desired,
    Instance,
    NewInstance,
    Observed,
    labelled_instance,
)
from boxwright.sandbox.launcher import Launcher
from boxwright.sandbox.reach import connect_inside
from boxwright.store.store import Store

_LOOPBACK = "127.0.0.1"


class NativeStacks(LocalStacks):
    """The stacks of a store. The launcher was started while the process had one thread."""

    name = "native"

    def __init__(self, store: Store, launcher: Launcher) -> None:
        super().__init__(store, stack_directory(store), f"{store.home.root}/volumes")
        self._launcher = launcher
        self._engine: NativeEngine = engine_of(store.home)

    def lacks(self, desired: Desired) -> Sequence[str]:
        """What needs more than one host, or one of its own kind."""
        return one_host_lacks("the native engine", desired)

    def stacks(self) -> Sequence[str]:
        """Those that have a directory."""
        return stack_names(self.store)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """Judged by processes alone. Bridges of other stacks are apart; what this machine has routes to is taken."""
        found = [self._instance(it) for it in self._engine.records.all() if _label(it, "stack") == stack]
        machine = machine_subnets()
        return Observed(
            tuple(it for it in found if it is not None),
            tuple(self.networks.of(stack)),
            self.volume_names(stack),
            machine.routed,
            held=machine.outward,
        )

    def _instance(self, container: Container) -> Instance | None:
        now = _state(container)
        found = labelled_instance(container.name, dict(container.config.labels), now.state)
        if found is None:
            return None
        ports = tuple(str(forward) for forward in container.config.ports) if now.state == RUNNING else ()
        started = container.status.started if container.status else 0
        return found._replace(exit_code=now.exit_code, started=started, ports=ports)

    def state(self, instance: str) -> State:
        """What an instance does now."""
        container = self._engine.records.find(instance)
        return State(LOST) if container is None else _state(container)

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """A record, a layer, its files; nothing is started."""
        self.delete(new.name)
        image = find_image(self.store, new.spec.image)
        with self._engine.records.reserve(new.name) as name:
            place = self._engine.records.place(name)
            make_layer(self.store, image, place, read_only=False)
            os.close(open_log(place))
            files = write_files(place, new)
            write_rules(f"{place}/{RULES}", new.rules)
            options = [volume_option(new.stack, it) for it in new.spec.mounts]
            volumes = Volumes(self.volumes, self.store)
            mounts = volumes.provide(options, image.snapshot, f"{place}/volumes")
            internal = self.networks.are_internal(new.stack, new.spec.networks)
            config = ContainerConfig(
                id=os.urandom(6).hex(),
                name=name,
                image=image.identity,
                image_name=new.spec.image_name,
                layers=image.snapshot.layers,
                argv=new.spec.argv,
                env=new.env,
                cwd=new.spec.directory or "/",
                user=new.spec.user,
                hostname=new.spec.logical,
                network="none" if internal else "default",
                ports=tuple(
                    Forward(it.port.container, it.port.protocol, it.port.host, it.address) for it in new.spec.ports
                ),
                mounts=(*mounts, *files, Mounted(self.directory.hosts(new.stack), HOSTS, read_only=True)),
                created=int(time.time()),
                stop_signal=new.spec.stop_signal,
                labels=new.labels,
                attachments=new.addresses,
            )
            self._engine.records.write_config(config)

    def start(self, instance: str) -> None:
        """Start it with its cables plugged in."""
        container = self._engine.records.get(instance)
        if container.is_running():
            return
        with suppress(FileNotFoundError):
            os.unlink(container.exit_file)
        log = open_log(container.directory)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            streams = Streams(null, log, log)
            config = container.config
            rules = read_rules(f"{container.directory}/{RULES}")
            plug_in = self.networks.plugging(dict(config.labels)[f"{LABEL}stack"], config.attachments, rules)
            self._engine.start(self._launcher, config, streams, plug_in)
        finally:
            os.close(null)
            os.close(log)

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        container = self._engine.records.find(instance)
        if container is not None:
            self._engine.stop(container, seconds)

    def delete(self, instance: str) -> None:
        """Remove it, running or not."""
        container = self._engine.records.find(instance)
        if container is None or container.name != instance:
            return
        if container.is_running():
            self._engine.kill(container)
        self._engine.remove(container)

    # Inside an instance -----------------------------------------------------------------------------------------------

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Executed:
        """Run a command in a running instance as root."""
        container = self._engine.running(instance)
        said: list[bytes] = []
        pid = container.status.process.pid if container.status else 0
        ended = self._launcher.capture(pid, argv, dict(container.config.env), said.append, timeout, stdin)
        return Executed(ended.code, b"".join(said))

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        """The same on this process's own streams."""
        container = self._engine.running(instance)
        config = container.config
        pid = container.status.process.pid if container.status else 0
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        given = {**dict(config.env), **({"TERM": os.environ.get("TERM", "dumb")} if terminal else {})}
        try:
            fds = (0 if stdin or terminal else null, 1, 2)
            return self._launcher.enter(
                pid, argv, given, cwd=config.cwd, user=config.user, on_terminal=terminal, fds=fds
            ).code
        finally:
            os.close(null)

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote."""
        container = self._engine.records.get(instance)
        return read_log(container.log, lambda: follow() and container.is_running())

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        """Ask a port from inside the instance's own network."""
        return exchange(self._connect(instance, port, timeout), request, timeout)

    def _connect(self, instance: str, port: int, timeout: float) -> socket.socket:
        container = self._engine.records.find(instance)
        if container is None or container.status is None or not container.is_running():
            raise OSError("it does not run")
        address = next((address for _, address in container.config.attachments), _LOOPBACK)
        return connect_inside(f"/proc/{container.status.process.pid}/ns/net", (address, port), timeout)

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        """Write the file in place: the instance has this very file mounted, and with its mode."""
        del mode
        rewrite_file(self._engine.records.get(instance).config.mounts, instance, path, data)

    # Documents --------------------------------------------------------------------------------------------------------


def _label(container: Container, name: str) -> str:
    return dict(container.config.labels).get(f"{LABEL}{name}", "")


def _state(container: Container) -> State:
    if container.is_running():
        return State(RUNNING)
    return State(CREATED) if container.status is None else State(STOPPED, container.exit_code())


@contextmanager
def open_native(store: Store, *, look: bool = False) -> Iterator[NativeStacks]:
    """The engine. For a process with one thread, which becomes what containers need, unless it is only to `look`."""
    if not look:
        _become_root(store)
    with ExitStack() as undo:
        launcher = Launcher.start(Path(store.home.cache))
        undo.callback(launcher.close)
        yield NativeStacks(store, launcher)


def stack_directory(store: Store) -> StackDirectory:
    """Where a store remembers its stacks."""
    return StackDirectory(lambda stack: f"{store.home.root}/stacks/{stack}")


def stack_names(store: Store) -> tuple[str, ...]:
    """The stacks of a store."""
    return entries(f"{store.home.root}/stacks")


def _become_root(store: Store) -> None:
    """An ordinary user's stacks are in one user namespace: that of any network which is there, else a new one."""
    if os.geteuid() == 0:
        return
    networks = StackNetworks(stack_directory(store))
    for stack in stack_names(store):
        keeper = networks.keeper(stack)
        if keeper is not None:
            from boxwright.sandbox.userns import join_user_namespace

            join_user_namespace(keeper.pid)
            return
    from boxwright.app.privileges import ensure_privileges

    ensure_privileges()
