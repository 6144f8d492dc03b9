"""Toolchains that are images: a local one, one of a registry, of an OCI layout or an archive of one.

The exact name of such a toolchain is ``image+SOURCE:NAME@DIGEST``; the lock has it, so that the tag may move on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from boxwright.app.bases import BaseResolver
from boxwright.app.imports import fetch_image
from boxwright.app.names import image_name
from boxwright.errors import FetchError
from boxwright.model.digest import Digest
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.sources.reduce import TIME, reduce_tree
from boxwright.store.images import Images
from boxwright.store.store import Store

IMAGE = "image+"


def exact_image(store: Store, base: str, platform: str, *, pull: bool) -> str:
    """The exact name of an image as a toolchain. Raises what BaseResolver raises, and `base.not-found`."""
    step = BaseResolver(store, pull=pull).base(base, platform, Span("toolchain", 1)).step
    if step.pinned is None:
        hint = "debian:SUITE, ubuntu:SUITE, tar:FILE, or an image"
        raise FetchError("base.not-yet", f"{base} can't be a toolchain", hint=hint)
    source, name = ("local", base) if step.source == "image" else (step.source, step.name)
    return f"{IMAGE}{source}:{name}@{step.pinned}"


def pinned_image(base: str, pins: Mapping[str, str]) -> str | None:
    """The exact name that a lock has for an image."""
    from boxwright.app.locks import lock_name
    from boxwright.sources.reference import classify

    meaning = classify(base)
    names = [f"{IMAGE}local:{base}", f"{IMAGE}{meaning.source}:{meaning.name}"]
    by_lock = {lock_name(name): name for name in names}
    for pin in pins:
        kind, _, exact = pin.partition(" ")
        spelt, _, digest = exact.rpartition("@")
        if kind == "base" and spelt in by_lock:
            return f"{by_lock[spelt]}@{digest}"
    return None


def fetch_toolchain_image(base: Base, directory: str, store: Store, output: Callable[[bytes], None]) -> int:
    """Fill `directory` with the image's reduced tree; returns the newest time in it."""
    spelt, _, digest = base.name.removeprefix(IMAGE).rpartition("@")
    source, _, name = spelt.partition(":")
    if source == "local":
        _lay_local(name, digest, directory, store)
    else:
        fetch_image(Base(source, name, base.platform, Digest(digest)), directory, store.home.cache, output)
    reduce_tree(directory)
    return TIME


def _lay_local(name: str, digest: str, directory: str, store: Store) -> None:
    import os

    from boxwright.images.plain import write_tar
    from boxwright.sources.unpack import unpack_tar

    image = Images(store).find(image_name(name))
    if image is None or image.snapshot.manifest.full != digest:
        hint = "build it again, or run `boxwright lock` where it was meant to change"
        raise FetchError("base.not-found", f"the image {name} is not here with the tree {digest}", hint=hint)
    tar = f"{directory}.tar"
    try:
        write_tar(image, store, Path(tar), "none", None)
        unpack_tar(tar, directory)
    finally:
        if os.path.lexists(tar):
            os.unlink(tar)
