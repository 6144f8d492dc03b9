"""Natively run containers: the store, the sandbox and the engine put together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boxwright.app.lookup import find_image
from boxwright.app.opening import open_store
from boxwright.app.placing import place_and_start
from boxwright.app.privileges import ensure_privileges
from boxwright.engines.native import NativeEngine, Streams
from boxwright.engines.options import RunOptions, check, invocation
from boxwright.engines.records import Container, ContainerConfig, Records
from boxwright.errors import StoreError
from boxwright.store.home import Home, default_root

if TYPE_CHECKING:
    from boxwright.engines.foreground import Guard
    from boxwright.engines.records import Mounted
    from boxwright.model.image import Image
    from boxwright.sandbox.launcher import Launcher
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
        if image.config.databases:
            from boxwright.app.servers import provide

            provide(environment, image.config.databases)
        ensure_privileges()
        engine = engine_of(store.home)
        engine.sweep()
        launcher = Launcher.start(Path(store.home.cache))
        try:
            with engine.records.reserve(options.name) as name:
                config = _configure(store, engine, image, options, name, environment.get("TERM", ""))
                with _linked(store, engine, launcher, image, config, options) as config:
                    container, terminal = place_and_start(store, engine, launcher, image, config, streams)
        finally:
            launcher.close()
        store.touch([image.snapshot.key])
    return engine, container, terminal


@contextmanager
def _linked(
    store: Store, engine: NativeEngine, launcher: Launcher, image: Image, config: ContainerConfig, options: RunOptions
) -> Iterator[ContainerConfig]:
    """Start what the container needs beside it; that goes again where the block fails."""
    if not any(not it.embedded for it in image.config.databases):
        yield config
        return
    from boxwright.app.servers import linked

    with linked(store, engine, launcher, image, config, dict(options.env)) as complete:
        yield complete


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
