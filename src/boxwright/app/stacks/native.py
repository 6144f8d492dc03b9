"""Stacks on this program's own engine: containers of the store, bridges, named volumes."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from boxwright.app.containers import engine_of
from boxwright.app.lookup import find_image
from boxwright.app.placing import make_layer, open_log
from boxwright.app.stacks.networks import StackNetworks
from boxwright.app.stacks.places import (
    HOSTS,
    check_layers,
    one_host_lacks,
    release_images,
    rewrite_file,
    volume_option,
    write_files,
)
from boxwright.deploy.engine import Executed, State
from boxwright.engines.bridges import routed_subnets
from boxwright.engines.documents import StackDirectory
from boxwright.engines.exchange import exchange
from boxwright.engines.forward import Forward
from boxwright.engines.native import NativeEngine, Streams
from boxwright.engines.records import Container, ContainerConfig, Mounted
from boxwright.engines.streams import read_log
from boxwright.engines.volumes import Volumes
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    CREATED,
    LABEL,
    LOST,
    RUNNING,
    STOPPED,
    Desired,
    Instance,
    NetworkSpec,
    NewInstance,
    Observed,
    VolumeSpec,
    labelled_instance,
)
from boxwright.sandbox.launcher import Launcher
from boxwright.sandbox.reach import connect_inside
from boxwright.store.store import Store

SECRETS = "secrets"
_LOOPBACK = "127.0.0.1"
_PORT_SECONDS = 3.0
_PAUSE_SECONDS = 0.05


class NativeStacks:
    """The stacks of a store. The launcher was started while the process had one thread."""

    name = "native"

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher
        self._engine: NativeEngine = engine_of(store.home)
        self._directory = stack_directory(store)
        self._networks = StackNetworks(self._directory)

    def lacks(self, desired: Desired) -> Sequence[str]:
        """What needs more than one host, or one of its own kind."""
        return one_host_lacks("the native engine", desired)

    def hosts(self) -> int:
        """One."""
        return 1

    def stacks(self) -> Sequence[str]:
        """Those that have a directory."""
        return stack_names(self._store)

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed."""
        return self._directory.lock(stack, patience)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """Judged by processes alone."""
        found = [self._instance(it) for it in self._engine.records.all() if _label(it, "stack") == stack]
        return Observed(
            tuple(it for it in found if it is not None),
            tuple(self._networks.of(stack)),
            tuple(self._volumes(stack)),
            self._taken(),
        )

    def _instance(self, container: Container) -> Instance | None:
        now = _state(container)
        found = labelled_instance(container.name, dict(container.config.labels), now.state)
        if found is None:
            return None
        ports = tuple(str(forward) for forward in container.config.ports) if now.state == RUNNING else ()
        started = container.status.started if container.status else 0
        return found._replace(exit_code=now.exit_code, started=started, ports=ports)

    def _volumes(self, stack: str) -> Iterator[str]:
        with suppress(FileNotFoundError):
            for entry in sorted(os.listdir(f"{self._store.home.root}/volumes")):
                if entry.startswith(f"{stack}."):
                    yield entry.removeprefix(f"{stack}.")

    def _taken(self) -> tuple[str, ...]:
        """Other stacks' bridges are apart; what this machine has routes to would not be reached any more."""
        return routed_subnets()

    def state(self, instance: str) -> State:
        """What an instance does now."""
        container = self._engine.records.find(instance)
        return State(LOST) if container is None else _state(container)

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    def provide_image(self, identity: str, name: str) -> None:
        """It is run out of the store."""
        check_layers(self._store, identity, name)

    def drop_images(self, stack: str, identities: Sequence[str]) -> None:
        """Their names in the store go."""
        release_images(self._store, stack, identities)

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge with its keeper."""
        self._networks.create(stack, spec)

    def delete_network(self, stack: str, name: str) -> None:
        """The keeper is ended."""
        self._networks.delete(stack, name)

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Made by the first instance that mounts it, from what its image holds there."""

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content."""
        shutil.rmtree(f"{self._store.home.root}/volumes/{stack}.{name}", ignore_errors=True)

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """A record, a layer, its files; nothing is started."""
        self.delete(new.name)
        image = find_image(self._store, new.spec.image)
        with self._engine.records.reserve(new.name) as name:
            place = self._engine.records.place(name)
            make_layer(self._store, image, place, read_only=False)
            os.close(open_log(place))
            files = write_files(place, new)
            options = [volume_option(new.stack, it) for it in new.spec.mounts]
            volumes = Volumes(f"{self._store.home.root}/volumes", self._store)
            mounts = volumes.provide(options, image.snapshot, f"{place}/volumes")
            internal = self._networks.are_internal(new.stack, new.spec.networks)
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
                mounts=(*mounts, *files, Mounted(self._directory.hosts(new.stack), HOSTS, read_only=True)),
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
        until = time.monotonic() + _PORT_SECONDS
        while True:
            try:
                self._start(container)
            except BoxwrightError as error:
                # What had the port before may still be going away.
                if error.code != "run.port-taken" or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def _start(self, container: Container) -> None:
        log = open_log(container.directory)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            streams = Streams(null, log, log)
            config = container.config
            plug_in = self._networks.plugging(dict(config.labels)[f"{LABEL}stack"], config.attachments)
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

    def put(self, instance: str, path: str, data: bytes) -> None:
        """Write the file in place: the instance has this very file mounted."""
        rewrite_file(self._engine.records.get(instance).config.mounts, instance, path, data)

    def publish_names(self, stack: str, hosts: str) -> None:
        """One file serves all instances."""
        self._directory.write_hosts(stack, hosts)

    # Documents --------------------------------------------------------------------------------------------------------

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name."""
        return self._directory.read(stack, f"document-{name}")

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        self._directory.write(stack, f"document-{name}", data)

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the documents of a stack that is no more."""
        secrets = self.read_document(stack, SECRETS) if keep_secrets else None
        self._directory.forget(stack)
        if secrets is not None:
            self.write_document(stack, SECRETS, secrets)


def _label(container: Container, name: str) -> str:
    return dict(container.config.labels).get(f"{LABEL}{name}", "")


def _state(container: Container) -> State:
    if container.is_running():
        return State(RUNNING)
    return State(CREATED if container.status is None else STOPPED, container.exit_code())


@contextmanager
def open_native(store: Store) -> Iterator[NativeStacks]:
    """The engine. For a process with one thread, which becomes what containers need."""
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
    with suppress(FileNotFoundError):
        return tuple(sorted(os.listdir(f"{store.home.root}/stacks")))
    return ()


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
