"""Images from elsewhere: their configuration first, their trees when a step needs them."""

from __future__ import annotations

from collections.abc import Callable

from boxwright.model.digest import Digest
from boxwright.model.image import ImageConfig
from boxwright.model.step import Base
from boxwright.sources.oci import image_config, import_image
from boxwright.sources.reference import Meaning
from boxwright.sources.registry import pull, remote_config, resolve_digest


def inspect_image(meaning: Meaning, platform: str) -> tuple[Digest, ImageConfig]:
    """What an image is today, and its configuration; its layers are not read."""
    if meaning.source == "registry":
        digest = resolve_digest(meaning.name)
        return digest, remote_config(pinned_name(meaning.name, digest), platform)
    config, digest = image_config(meaning.source, meaning.name, platform)
    return digest, config


def fetch_image(base: Base, directory: str, scratch: str, output: Callable[[bytes], None]) -> None:
    """Fill `directory` with the flattened tree of the image that `base` pins."""
    if base.source == "registry":
        name = pinned_name(base.name, base.pinned) if base.pinned else base.name
        pull(name, directory, base.platform, output=output, scratch_directory=scratch)
    else:
        import_image(base.source, base.name, directory, base.platform)


def pinned_name(name: str, digest: Digest) -> str:
    """A registry reference to that very content."""
    return f"{name.partition('@')[0]}@{digest}"
