"""Natively run containers: the store, the sandbox and the engine put together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from boxwright.app.lookup import find_image
from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.engines.native import NativeEngine, Started, Streams
from boxwright.engines.options import RunOptions, check, invocation
from boxwright.engines.records import Container, ContainerConfig, Records
from boxwright.errors import BoxwrightError, MachineError
from boxwright.files import give_attributes
from boxwright.store.home import Home, default_root

if TYPE_CHECKING:
    from boxwright.engines.foreground import Guard
    from boxwright.engines.forward import PortOptions
    from boxwright.engines.processes import ProcessMark
    from boxwright.engines.records import Mounted
    from boxwright.model.image import Image
    from boxwright.ports import SandboxSpec
    from boxwright.sandbox.launcher import Launcher
    from boxwright.sandbox.request import NetworkRequest
    from boxwright.store.store import Store


_NO_UDP = ("--udp-ports", "none")


def open_engine(environment: Mapping[str, str]) -> NativeEngine:
    """The containers of the store that `environment` names; the store itself is not opened."""
    return engine_of(Home(default_root(dict(environment), os.geteuid())))


def engine_of(home: Home) -> NativeEngine:
    """The containers of a store."""
    return NativeEngine(Records(home.containers), home.layers)


def start(
    environment: Mapping[str, str], options: RunOptions, streams: Streams | None
) -> tuple[NativeEngine, Container, int]:
    """Make a container and start it; returns it and its terminal, or -1. For a process with one thread.

    Without `streams` it writes to its log. Where it can't be started nothing is left of it.
    """
    from pathlib import Path

    from boxwright.sandbox.launcher import Launcher

    check(options)
    with open_store(environment) as store:
        image = find_image(store, options.image)
        ensure_privileges()
        engine = engine_of(store.home)
        _sweep(engine)
        launcher = Launcher.start(Path(store.home.cache))
        try:
            with engine.records.reserve(options.name) as name:
                config = _configure(store, engine, image, options, name, environment.get("TERM", ""))
                _make_layer(store, image, engine.records.place(name), read_only=options.read_only)
                log = _open_log(engine.records.place(name))
                try:
                    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                    container, terminal = engine.start(_Starter(launcher), config, streams or Streams(null, log, log))
                    os.close(null)
                finally:
                    os.close(log)
        finally:
            launcher.close()
        store.touch([image.snapshot.key])
    return engine, container, terminal


class _Starter:
    """Starts detached sandboxes with streams of their own and a network that forwards ports.

    The launcher's own `spawn` gives no standard input, no terminal and no ports of UDP.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def start_container(self, spec: SandboxSpec, streams: Streams, exit_fd: int, ports: PortOptions) -> Started:
        """Start a container, which goes on when this process ends."""
        import dataclasses

        from boxwright.sandbox import channel, network

        launcher = self._launcher
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        alive, lifeline = os.pipe()
        networks: list[int] = []
        try:
            if spec.network == "default":
                asked = _with_ports(network.request(launcher.root, publish=ports.tcp, detached=True), ports.udp)
                with channel.send(launcher.control, asked, [alive, null, null]) as session:
                    networks = channel.expect(session)[1]
            request = dataclasses.replace(launcher.request(spec), detached=True)
            with channel.send(launcher.control, request, [*streams, *networks, lifeline, exit_fd]) as session:
                return _await_start(session)
        finally:
            for fd in (null, alive, lifeline, *networks):
                os.close(fd)


def _with_ports(asked: NetworkRequest, udp: tuple[str, ...]) -> NetworkRequest:
    """`asked` with ports of UDP too, which only pasta(1) forwards."""
    import dataclasses

    if not udp:
        return asked
    command = asked.command
    for at in range(len(command) - 1):
        if command[at : at + 2] == _NO_UDP:
            words = tuple(word for port in udp for word in ("--udp-ports", port))
            return dataclasses.replace(asked, command=(*command[:at], *words, *command[at + 2 :]))
    hint = "install Debian's package passt"
    raise MachineError("machine.no-user-network", "ports of UDP need pasta, which is not there", hint=hint)


def _await_start(session: socket.socket) -> Started:
    """Until the session closes, which execve(2) does."""
    from boxwright.sandbox import channel
    from boxwright.sandbox.request import Exited, Failed, Made, Ready, Terminal

    started = Started(0, ())
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
        elif isinstance(report, Exited):
            return started


def _bridge(control: int, output: int, until_end: Callable[[], object]) -> None:
    """Connect the user's terminal with a container's; a thread says when the container has ended."""
    import threading

    from boxwright.sandbox.request import Exited, Terminal, encode
    from boxwright.sandbox.terminal import attend

    session, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(reports, [encode(Terminal())], [control])
    os.close(control)

    def report_end() -> None:
        until_end()
        reports.send(encode(Exited(0)))

    helper = threading.Thread(target=report_end, daemon=True)
    with session, reports:
        helper.start()
        attend(session, (0, output), terminal=True)
        helper.join()


def run_attached(environment: Mapping[str, str], options: RunOptions, guard: Guard) -> int:
    """Run a container in the foreground; returns its exit status."""
    from boxwright.engines.foreground import run_in_foreground

    def begin(streams: Streams) -> tuple[NativeEngine, Container, int]:
        return start(environment, options, streams)

    return run_in_foreground(begin, guard, _bridge, stdin=options.interactive)


def _sweep(engine: NativeEngine) -> None:
    engine.records.sweep()
    for container in engine.records.stale():
        engine.records.discard(container.name)


def _configure(
    store: Store, engine: NativeEngine, image: Image, options: RunOptions, name: str, terminal_kind: str
) -> ContainerConfig:
    from boxwright.engines.forward import wanted

    process = invocation(image.config, options, terminal_kind if options.terminal else "")
    identity = os.urandom(6).hex()
    published = image.config.published if options.network == "default" else ()
    exposed = image.config.exposed if options.publish_all and options.network == "default" else ()
    return ContainerConfig(
        id=identity,
        name=name,
        image=image.identity,
        image_name=options.image,
        layers=image.snapshot.layers,
        argv=process.argv,
        env=process.env,
        cwd=process.cwd,
        user=process.user,
        hostname=options.hostname or identity,
        network=options.network,
        ports=wanted(published, exposed, options.ports),
        mounts=_mounts(store, engine, image, options, name),
        created=int(time.time()),
        stop_signal=image.config.stop_signal,
        auto_remove=options.auto_remove,
        read_only=options.read_only,
        init=options.init,
        terminal=options.terminal,
    )


def _mounts(store: Store, engine: NativeEngine, image: Image, options: RunOptions, name: str) -> tuple[Mounted, ...]:
    from boxwright.engines.volumes import Volumes, plan_volumes

    inherited = [mount for other in options.volumes_from for mount in engine.records.get(other).config.mounts]
    planned = plan_volumes(options.volumes, image.config.volumes, inherited)
    volumes = Volumes(f"{store.home.root}/volumes", store)
    return volumes.provide(planned, image.snapshot, f"{engine.records.place(name)}/volumes")


def _make_layer(store: Store, image: Image, directory: str, *, read_only: bool) -> None:
    """The overlay shows the upper directory's attributes as the root's: they are the image's."""
    if not read_only:
        os.mkdir(f"{directory}/upper", 0o755)
        give_attributes(f"{directory}/upper", store.root(image.snapshot.manifest))
        os.mkdir(f"{directory}/work", 0o700)


def _open_log(directory: str) -> int:
    """Any user of the container may open it again as /dev/stdout; on the host its directory keeps others out."""
    log = os.open(f"{directory}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(log, 0o666)
    return log


def execute(
    environment: Mapping[str, str],
    name: str,
    argv: tuple[str, ...],
    *,
    env: tuple[tuple[str, str], ...] = (),
    cwd: str = "",
    user: str | None = None,
    terminal: bool = False,
    stdin: bool = False,
) -> int:
    """Run a further process in a running container, on this process's streams; returns its exit status."""
    from pathlib import Path

    from boxwright.sandbox.launcher import Launcher

    home = Home(default_root(dict(environment), os.geteuid()))
    engine = engine_of(home)
    container = engine.running(name)
    config = container.config
    assert container.status is not None  # noqa: S101  for the type checker: it runs
    pid = _join(engine, container, container.status.process)
    launcher = Launcher.start(Path(home.cache))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    given = {**dict(config.env), **({"TERM": environment.get("TERM", "dumb")} if terminal else {}), **dict(env)}
    try:
        return launcher.enter(
            pid,
            argv,
            given,
            cwd=cwd or config.cwd,
            user=config.user if user is None else user,
            on_terminal=terminal,
            fds=(0 if stdin or terminal else null, 1, 2),
        ).code
    finally:
        os.close(null)
        launcher.close()


def _join(engine: NativeEngine, container: Container, process: ProcessMark) -> int:
    """As an ordinary user, become root of the container's user namespace; returns the process to enter."""
    if os.geteuid() == 0:
        return process.pid
    from boxwright.engines.processes import parent_of
    from boxwright.sandbox.userns import join_user_namespace

    inner = engine.inner_process(container)
    keeper = parent_of(process.pid)
    join_user_namespace(keeper if keeper > 1 else inner)
    return inner


def remove(environment: Mapping[str, str], name: str, *, force: bool = False) -> str:
    """Remove a container, else an image, of this name; says which. Raises `container.running`, `image.unknown`."""
    engine = open_engine(environment)
    container = engine.records.find(name)
    if container is None:
        return _remove_image(environment, engine, name, force=force)
    if force:
        engine.kill(container)
    elif container.is_running():
        engine.remove(container)  # says why not
    ensure_privileges()
    engine.remove(container)
    return f"container {container.name}"


def _remove_image(environment: Mapping[str, str], engine: NativeEngine, name: str, *, force: bool) -> str:
    from boxwright.app.lookup import names_of
    from boxwright.store.images import Images

    with open_store(environment) as store:
        try:
            image = find_image(store, name)
        except BoxwrightError as error:
            if error.code != "image.unknown":
                raise
            hint = "'boxwright ps -a' and 'boxwright images' list those there are"
            raise BoxwrightError("image.unknown", f"there is no container and no image {name!r}", hint=hint) from error
        names = names_of(store, image)
        users = [container.name for container in engine.records.all() if container.config.image == image.identity]
        tagged = name if name in names else f"{name}:latest"
        if users and not force and (len(names) < 2 or tagged not in names):
            hint = "remove the container first, or use -f"
            raise BoxwrightError("image.in-use", f"the container {users[0]} stands on the image {name}", hint=hint)
        Images(store).remove(tagged if tagged in names else name)
    return f"image {name}"


def commit(environment: Mapping[str, str], name: str, tag: str) -> Image:
    """Keep a stopped container's layer as a new image. Raises `container.running`, `container.read-only`."""
    from boxwright.engines.layers import copy_layer
    from boxwright.model.digest import Digest
    from boxwright.model.keys import key_of
    from boxwright.sandbox.attached import remove_made
    from boxwright.store.images import Images

    container = open_engine(environment).records.get(name)
    if container.is_running():
        hint = f"'boxwright stop {container.name}' first"
        raise BoxwrightError("container.running", f"the container {container.name} runs", hint=hint)
    with open_store(environment) as store:
        image = Images(store).load(Digest(container.config.image))
        if image is None:
            message = f"the image of the container {container.name} is gone ({container.config.image_name})"
            raise BoxwrightError("image.unknown", message, hint="build it again")
        snapshot = image.snapshot
        if container.upper:
            key = key_of("commit", (("image", image.identity), ("container", container.config.id)))
            ensure_privileges()
            with store.lock(key, lambda: False), store.draft(image.snapshot) as draft:
                copy_layer(container.upper, draft.upper)
                remove_made(draft.upper, container.status.made if container.status else ())
                snapshot = store.snapshot(key) or store.commit(key, image.snapshot, draft, newest=None)
        return Images(store).keep(image.config, snapshot, (tag,))
