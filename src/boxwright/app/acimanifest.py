"""The manifest that a container's definition gives an App Container Image, kept beside the image's identity."""

from __future__ import annotations

from boxwright.model.image import Image
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def keep_manifest(store: Store, image: Image, manifest: str) -> None:
    """Remember it, for later exports."""
    if kept_manifest(store, image) != manifest:
        Packages(store).keep_pin(_name(image), manifest)


def kept_manifest(store: Store, image: Image) -> str:
    """The manifest, empty where the image has none of its own."""
    return Packages(store).pin(_name(image)) or ""


def _name(image: Image) -> str:
    return f"aci {image.identity}"
