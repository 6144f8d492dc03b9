"""Images as people name them: ``hello`` is ``hello:latest``."""

from __future__ import annotations

from boxwright.model.image import Image
from boxwright.store.images import Images
from boxwright.store.store import Store


def find_image(store: Store, given: str) -> Image:
    """The image of a name, with or without its tag, or of a digest or its beginning. Raises `image.unknown`."""
    images = Images(store)
    if ":" not in given.rpartition("/")[2]:
        found = images.find(f"{given}:latest")
        if found is not None:
            return found
    return images.get(given)


def names_of(store: Store, image: Image) -> list[str]:
    """Every name of an image."""
    return [
        row[0] for row in store.index.all("SELECT name FROM tags WHERE identity=? ORDER BY name", (image.identity,))
    ]


def name_as_given(store: Store, image: Image, given: str) -> str:
    """The name by which the user named an image; its first one where that was a digest, empty without any."""
    names = names_of(store, image)
    return next((name for name in names if name in {given, f"{given}:latest"}), names[0] if names else "")
