"""An image of a layout or an archive into the store."""

from __future__ import annotations

from boxwright.app.privileges import ensure_privileges
from boxwright.model.image import Image
from boxwright.model.keys import key_of
from boxwright.sources.oci import image_config, import_image
from boxwright.store.images import Images
from boxwright.store.store import Store


def import_into_store(source: str, place: str, platform: str, name: str, store: Store) -> Image:
    """Read an image (``oci``, ``oci-archive``, ``docker-archive``) and give it a name. Raises FetchError."""
    config, digest = image_config(source, place, platform)
    ensure_privileges()
    key = key_of("Imported", (("digest", digest),))
    snapshot = store.snapshot(key)
    if snapshot is None:
        with store.draft(None) as draft:
            import_image(source, place, draft.upper, platform)
            snapshot = store.commit(key, None, draft, newest=None)
    return Images(store).keep(config, snapshot, (name,))
