"""Removes what has a name: containers and images."""

from __future__ import annotations

from collections.abc import Mapping

from boxwright.app.containers import open_engine
from boxwright.app.lookup import find_image
from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.engines.native import NativeEngine
from boxwright.errors import BoxwrightError, StoreError


def remove(environment: Mapping[str, str], name: str, *, force: bool = False) -> str:
    """Remove a container, else an image, of this name; says which. Raises `container.running`, `image.unknown`."""
    engine = open_engine(environment)
    try:
        container = engine.records.find(name)
    except StoreError as error:
        if error.code != "container.damaged" or not force:
            raise
        engine.kill_damaged(name)
        ensure_privileges()
        engine.records.discard(name)
        return f"container {name}"
    if container is None:
        return _remove_image(environment, engine, name, force=force)
    if force:
        engine.kill(container)
    elif container.is_running():
        engine.remove(container)  # says why not
    ensure_privileges()
    engine.remove(container)
    engine.sweep()
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
