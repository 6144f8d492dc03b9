"""Gives a container its place on the disk and starts it there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boxwright.engines.native import NativeEngine, Streams
from boxwright.files import give_attributes

if TYPE_CHECKING:
    from boxwright.engines.records import Container, ContainerConfig
    from boxwright.model.image import Image
    from boxwright.sandbox.launcher import Launcher
    from boxwright.store.store import Store


def place_and_start(
    store: Store,
    engine: NativeEngine,
    launcher: Launcher,
    image: Image,
    config: ContainerConfig,
    streams: Streams | None,
) -> tuple[Container, int]:
    """Start a container whose name is reserved; returns it and its terminal, or -1.

    Without streams it writes to its log.
    """
    place = engine.records.place(config.name)
    make_layer(store, image, place, read_only=config.read_only)
    log = open_log(place)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return engine.start(launcher, config, streams or Streams(null, log, log))
    finally:
        os.close(null)
        os.close(log)


def make_layer(store: Store, image: Image, directory: str, *, read_only: bool) -> None:
    """The overlay shows the upper directory's attributes as the root's: they are the image's."""
    if not read_only:
        os.mkdir(f"{directory}/upper", 0o755)
        give_attributes(f"{directory}/upper", store.root(image.snapshot.manifest))
        os.mkdir(f"{directory}/work", 0o700)


def open_log(directory: str) -> int:
    """Any user of the container may open it again as /dev/stdout; on the host its directory keeps others out."""
    log = os.open(f"{directory}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(log, 0o666)
    return log
