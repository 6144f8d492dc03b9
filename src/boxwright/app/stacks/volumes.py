"""Volumes of a stack go back to what they were: whoever mounts one is stopped for that time."""

from __future__ import annotations

from collections.abc import Callable

from boxwright.deploy.engine import DeployEngine
from boxwright.engines.deploy.directories import unknown_volume
from boxwright.model.deployment import RUNNING, Instance


def put_back(engine: DeployEngine, stack: str, volume: str, patience: float, work: Callable[[], None]) -> None:
    """Stop those that mount a volume, do `work`, start them again, also where that fails.

    Raises BoxwrightError, `volume.unknown` among others.
    """
    with engine.copying(stack, patience), engine.lock(stack, patience):
        observed = engine.observe(stack)
        if volume not in observed.volumes:
            raise unknown_volume(stack, volume)
        users = [it for it in observed.instances if it.state == RUNNING and _mounts(it, volume)]
        for instance in users:
            engine.stop(instance.name, instance.spec.stop_seconds if instance.spec else 10.0)
        try:
            work()
        finally:
            for instance in users:
                engine.start(instance.name)


def _mounts(instance: Instance, volume: str) -> bool:
    """One of which nothing is known may mount it."""
    mounts = instance.spec.mounts if instance.spec else None
    return mounts is None or any(it.kind == "volume" and it.source == volume for it in mounts)
