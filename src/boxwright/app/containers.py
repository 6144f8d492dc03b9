"""Natively run containers: the store, the sandbox and the engine put together."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxwright.app.lookup import find_image
from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.engines.native import NativeEngine, Streams
from boxwright.engines.options import RunOptions, check, invocation
from boxwright.engines.records import Container, ContainerConfig, Records
from boxwright.errors import StoreError
from boxwright.files import give_attributes
from boxwright.store.home import Home, default_root

if TYPE_CHECKING:
    from boxwright.engines.foreground import Guard
    from boxwright.engines.records import Mounted
    from boxwright.model.image import Image
    from boxwright.store.store import Store


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
        _require_layers(store, image, options.image)
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
                    container, terminal = engine.start(launcher, config, streams or Streams(null, log, log))
                    os.close(null)
                finally:
                    os.close(log)
        finally:
            launcher.close()
        store.touch([image.snapshot.key])
    return engine, container, terminal


def run_attached(environment: Mapping[str, str], options: RunOptions, guard: Guard) -> int:
    """Run a container in the foreground; returns its exit status."""
    from boxwright.engines.foreground import run_in_foreground
    from boxwright.sandbox.terminal import connect

    def begin(streams: Streams) -> tuple[NativeEngine, Container, int]:
        return start(environment, options, streams)

    return run_in_foreground(begin, guard, connect, stdin=options.interactive or options.terminal)


def _require_layers(store: Store, image: Image, name: str) -> None:
    for layer in image.snapshot.layers:
        if not os.path.isdir(f"{store.home.layers}/{layer}"):
            hint = "run 'boxwright fsck --repair', then build it again"
            raise StoreError("store.layer-missing", f"the layer {layer} of the image {name} is gone", hint=hint)


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
