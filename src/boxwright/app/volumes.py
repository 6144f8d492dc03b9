"""Named volumes: which there are, who uses them, and their removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from boxwright.app.containers import open_engine
from boxwright.engines.volumes import check_name
from boxwright.errors import BoxwrightError
from boxwright.store.home import Home, default_root

_GONE = ".gone-"


class Volume(NamedTuple):
    """A named volume: where its files lie, and which containers mount it, running or not."""

    name: str
    path: str
    users: tuple[str, ...]


def directory_of(environment: Mapping[str, str]) -> str:
    """Where the volumes of the store lie that `environment` names."""
    return f"{Home(default_root(dict(environment), os.geteuid())).root}/volumes"


def volumes(environment: Mapping[str, str]) -> list[Volume]:
    """All of them, by name."""
    directory = directory_of(environment)
    users = _users(environment)
    with suppress(FileNotFoundError):
        names = sorted(it for it in os.listdir(directory) if not it.startswith("."))
        return [Volume(name, f"{directory}/{name}", users.get(name, ())) for name in names]
    return []


def remove(environment: Mapping[str, str], name: str) -> None:
    """Remove a volume with all that is in it. Raises BoxwrightError `volume.unknown`, `volume.in-use`."""
    from boxwright.app.privileges import ensure_privileges

    directory = directory_of(environment)
    place = f"{directory}/{check_name(name)}"
    if not os.path.isdir(place):
        raise BoxwrightError("volume.unknown", f"there is no volume {name!r}", hint="'boxwright volume ls' lists them")
    engine = open_engine(environment)
    ensure_privileges()
    engine.sweep()
    users = _users(environment).get(name, ())
    damaged = engine.records.survey()[1]
    if users:
        hint = f"'boxwright rm {users[0]}' first"
        raise BoxwrightError("volume.in-use", f"the container {users[0]} mounts the volume {name}", hint=hint)
    if damaged:
        raise damaged[0]  # what it mounts can't be told
    gone = f"{directory}/{_GONE}{os.urandom(4).hex()}"
    with suppress(FileNotFoundError):
        os.rename(place, gone)
    shutil.rmtree(f"{directory}/.snapshots/{name}", ignore_errors=True)
    for left in (it for it in os.listdir(directory) if it.startswith(_GONE)):
        shutil.rmtree(f"{directory}/{left}", ignore_errors=True)


def _users(environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The containers that mount each volume, running or not."""
    users: dict[str, tuple[str, ...]] = {}
    for container in open_engine(environment).records.all():
        for mount in container.config.mounts:
            if mount.volume:
                users[mount.volume] = (*users.get(mount.volume, ()), container.name)
    return users
