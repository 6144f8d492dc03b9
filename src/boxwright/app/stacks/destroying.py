"""Removes a stack. Whatever is killed, `watch` leaves the rest alone, and the next `destroy` goes on."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.history import RELEASES, images_of, images_of_others, read_images, read_releases
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Instance

DESTROYING = b"destroy"
"""What the document of an unfinished deployment says where that is none: the stack is to be no more."""
_JOBS = 8


def is_being_destroyed(engine: DeployEngine, stack: str) -> bool:
    """Whether somebody is at it, or was interrupted."""
    return engine.read_document(stack, DEPLOYING) == DESTROYING


def destroy_stack(engine: DeployEngine, stack: str, volumes: Collection[str] | None) -> tuple[str, ...]:
    """Remove everything but volumes, and of these those that are named, or all (None). Returns those that stay.

    Its secrets stay as long as any of them. The caller holds the stack's lock.
    """
    engine.write_document(stack, DEPLOYING, DESTROYING)
    observed = engine.observe(stack)
    with ThreadPoolExecutor(_JOBS) as pool:
        list(pool.map(lambda it: engine.stop(it.name, _patience(it)), observed.instances))
        list(pool.map(lambda it: engine.delete(it.name), observed.instances))
    for network in observed.networks:
        engine.delete_network(stack, network.name)
    gone = observed.volumes if volumes is None else tuple(it for it in observed.volumes if it in volumes)
    for volume in gone:
        engine.delete_volume(stack, volume)
    kept = tuple(it for it in observed.volumes if it not in gone)
    images = {it.spec.image for it in observed.instances if it.spec is not None} | read_images(engine, stack)
    with suppress(BoxwrightError):  # what can't be read any more names no images either
        images |= images_of(read_releases(engine, stack))
    engine.drop_images(stack, sorted(images - images_of_others(engine, stack)))
    # First what `watch` goes by: of the other documents one may be left, but not without the mark.
    engine.write_document(stack, RELEASES, None)
    engine.forget(stack, keep_secrets=bool(kept))
    return kept


def _patience(instance: Instance) -> float:
    return instance.spec.stop_seconds if instance.spec else 10.0
