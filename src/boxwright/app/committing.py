"""A container's layer becomes an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxwright.app.containers import open_engine
from boxwright.app.opening import open_store
from boxwright.app.privileges import ensure_privileges
from boxwright.errors import BoxwrightError

if TYPE_CHECKING:
    from boxwright.model.image import Image


def commit(environment: Mapping[str, str], name: str, tag: str) -> Image:
    """Keep a stopped container's layer as a new image. Raises `container.running`.

    A read-only one has no layer: the new name is one of its image's.
    """
    from boxwright.engines.layers import copy_layer
    from boxwright.model.digest import Digest
    from boxwright.model.keys import key_of
    from boxwright.sandbox.attached import remove_made
    from boxwright.store.images import Images
    from boxwright.store.provenance import Provenance

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
        made = Images(store).keep(image.config, snapshot, (tag,))
        Provenance(store).describe_like(made, image)
        return made
