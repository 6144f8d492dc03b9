"""The database servers beside a container that needs them."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from boxwright.app.databases import dump_path
from boxwright.app.lookup import find_image
from boxwright.app.opening import open_store
from boxwright.app.placing import place_and_start
from boxwright.engines.native import OF_CONTAINER, NativeEngine
from boxwright.engines.records import Container, ContainerConfig
from boxwright.engines.volumes import VolumeOption, Volumes
from boxwright.errors import BoxwrightError
from boxwright.frontends.recipe.dbase import OWN_NAME, PROGRAM, image_name, server_of
from boxwright.store.images import Images

if TYPE_CHECKING:
    from boxwright.events import Event
    from boxwright.model.image import Database, Image
    from boxwright.sandbox.launcher import Launcher
    from boxwright.store.store import Store

Given = Mapping[str, str]
HOME = "/var/lib/dbase"
LOOPBACK = "127.0.0.1"
READY_SECONDS = 600.0
_WAKE_SECONDS = 0.02
_TAIL = 2000
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def provide(environment: Mapping[str, str], databases: Sequence[Database]) -> None:
    """Build the images of servers that are not in the store; for a process with one thread."""
    for database in databases:
        if not database.embedded:
            with open_store(environment) as store:
                if Images(store).find(image_name(database)) is None:
                    _build(database, store, environment)


def _build(database: Database, store: Store, environment: Mapping[str, str]) -> None:
    from boxwright.app.build import prepare
    from boxwright.app.execution import execute
    from boxwright.app.recipes import own_recipe
    from boxwright.app.request import BuildRequest
    from boxwright.solver.scheduler import Failed

    server, suite = server_of(database)
    file = own_recipe(server.recipe)[1]
    name = image_name(database)
    request = BuildRequest(os.path.dirname(file), tags=(name,), build_args={"SUITE": suite})
    try:
        execute(prepare(request, store, environment), request, store, _unheard)
    except Failed as failure:
        message = f"the image {name}, which the database needs, can't be built: {failure.error}"
        hint = f"boxwright build {os.path.dirname(file)} --build-arg SUITE={suite} -t {name} shows why"
        raise BoxwrightError("run.server", message, hint=hint) from failure.error


def _unheard(event: Event) -> None:
    """Where the build of a server is told of: nowhere, unless it fails."""


@contextmanager
def linked(
    store: Store, engine: NativeEngine, launcher: Launcher, image: Image, config: ContainerConfig, given: Given
) -> Iterator[ContainerConfig]:
    """Start the servers of `image`; yields `config` linked with them. They go again where the block fails.

    The first server owns the network that all share, so that it is there before the program. `given` is what the user
    says of the environment, which wins.
    """
    with ExitStack() as undo:
        env = dict(config.env)
        needed = [it for it in image.config.databases if not it.embedded]
        names: list[str] = []
        for number, database in enumerate(needed):
            port = server_of(database)[0].port + number if config.network != "host" else _free_port()
            name = f"{config.name}-{database.name.lower()}"
            server, password = _configured(store, database, config, name, port)
            with engine.records.reserve(name):
                container = place_and_start(store, engine, launcher, _image(store, database), server, None)[0]
            undo.callback(_discard, engine, container)
            _await_ready(container)
            env.update(_told(database, port, password))
            if not names and config.network in ("default", "none"):
                config = config._replace(network=f"{OF_CONTAINER}{name}", ports=container.config.ports)
            names.append(name)
        env.update(given)
        yield config._replace(env=tuple(env.items()), linked=tuple(names))
        undo.pop_all()


def _discard(engine: NativeEngine, container: Container) -> None:
    engine.kill(container)
    engine.records.discard(container.name)


def _image(store: Store, database: Database) -> Image:
    return find_image(store, image_name(database))


def _configured(
    store: Store, database: Database, config: ContainerConfig, name: str, port: int
) -> tuple[ContainerConfig, str]:
    """How the server beside `config` is run, with its volume, and the password that this one holds."""
    image = _image(store, database)
    planned = (VolumeOption(name, HOME), VolumeOption(dump_path(store, database), "/dump.sql", read_only=True))
    mounts = Volumes(f"{store.home.root}/volumes", store).provide(planned, image.snapshot, "")
    shared = config.network.startswith(OF_CONTAINER)
    server = ContainerConfig(
        id=os.urandom(6).hex(),
        name=name,
        image=image.identity,
        image_name=image_name(database),
        layers=image.snapshot.layers,
        argv=(PROGRAM, "run"),
        env=(*image.config.env, ("DBASE_PORT", str(port))),
        cwd="/",
        user="",
        hostname=name,
        network=config.network,
        ports=() if shared else config.ports,
        mounts=mounts,
        created=int(time.time()),
        stop_signal=image.config.stop_signal,
        auto_remove=config.auto_remove,
        beside=config.name,
    )
    return server, _password(mounts[0].source)


def _password(volume: str) -> str:
    """The role's password, made when the volume is new; on the host nobody but its owner can read it."""
    path = f"{volume}/password"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        pass
    password = secrets.token_hex(20)
    temporary = f"{path}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(password)
    os.rename(temporary, path)
    return password


def _told(database: Database, port: int, password: str) -> dict[str, str]:
    """What the program is told of a database, as RUN steps are."""
    name = database.name
    return {
        f"{name}_TYPE": database.kind,
        f"{name}_HOST": LOOPBACK,
        f"{name}_PORT": str(port),
        f"{name}_NAME": OWN_NAME,
        f"{name}_USER": OWN_NAME,
        f"{name}_PASSWORD": password,
    }


def _await_ready(container: Container) -> None:
    """Until the server has written that it answers. Raises BoxwrightError `run.database`."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with open(container.log, encoding="utf-8", errors="replace") as log:
            said = log.read()
        if "ready\n" in said:
            return
        if not container.is_running() or time.monotonic() > deadline:
            message = f"the database server {container.name} does not answer:\n{said[-_TAIL:].strip()}"
            raise BoxwrightError("run.database", message, hint="its volume may be damaged, or of another version")
        if signal.sigpending() & _ENDING:  # they are held back until the program runs
            raise KeyboardInterrupt
        time.sleep(_WAKE_SECONDS)


def _free_port() -> int:
    """A port that nobody uses, for a server in the machine's own network."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
