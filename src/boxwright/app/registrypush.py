"""An image of the store into registries: only layers that they lack are packed and sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

from boxwright.app.packing import Packer
from boxwright.app.parallel import run_all
from boxwright.app.registries import Registries
from boxwright.app.registrypull import remember_image
from boxwright.errors import UsageError
from boxwright.images.layer import Layer, Packing
from boxwright.images.oci import MANIFEST_TYPE, Documents, PackedLayer, documents
from boxwright.images.streams import Written
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import Image
from boxwright.repositories.registry.client import Client, Manifest, blobs_of
from boxwright.repositories.registry.failures import RegistryError
from boxwright.repositories.registry.transport import Body
from boxwright.sources.reference import RegistryName, parse_registry_name
from boxwright.store.store import Store

AT_ONCE = 4
_UNKNOWN_BLOB = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})


class Pushed(NamedTuple):
    """What a push came to: `digest` of the manifest, layers in all and sent, and the bytes that were sent."""

    name: str
    digest: Digest
    layers: int
    sent_layers: int
    sent: int
    descriptor: Mapping[str, Any]
    config: Digest


Beside = Callable[[Client, Digest, int], None]
"""Pushes what belongs to the manifest of this digest and size."""


def check_names(names: Sequence[str]) -> tuple[RegistryName, ...]:
    """The names as registries have them. Raises UsageError `usage.push` where there is none, `registry.bad-name`."""
    if not names:
        raise UsageError("usage.push", "there is no name to push under", hint="-t [REGISTRY/]REPOSITORY[:TAG]")
    return tuple(parse_registry_name(name) for name in names)


def push_image(
    image: Image,
    layers: Sequence[Layer],
    name: RegistryName,
    registries: Registries,
    store: Store,
    packing: Packing,
    *,
    beside: Beside | None = None,
    tagged: bool = True,
) -> Pushed:
    """Push an image under a name; not `tagged`: by its digest alone. Raises RegistryError.

    What `beside` pushes is there before the tag names the image, so that nobody sees the tag without it.
    """
    client = registries.client(registries.route(name).home, push=True)
    before = registries.transport.sent
    packer = Packer(store, packing)
    keys = [packer.key(layer) if layer.members is not None else None for layer in layers]
    present = _named_by(client.manifest(name.tag)) if tagged else frozenset()
    try:
        parts, sent = _push(client, registries, image, layers, keys, packer, packing, present)
    except RegistryError as error:
        if not present or _UNKNOWN_BLOB.isdisjoint(error.codes):
            raise
        # What the old manifest names was removed by the registry's own collection.
        parts, sent = _push(client, registries, image, layers, keys, packer, packing, frozenset())
    remember_image(store, parts.digest, image)
    packer.touch([key for key in keys if key is not None])
    count = sum(key is not None for key in keys)
    if beside is not None:
        beside(client, parts.digest, len(parts.manifest))
    if tagged:
        client.put_manifest(name.tag, parts.manifest, MANIFEST_TYPE)
    config = digest_of(parts.config)
    return Pushed(str(name), parts.digest, count, sent, registries.transport.sent - before, parts.descriptor, config)


def _named_by(manifest: Manifest | None) -> frozenset[str]:
    """The blobs that a repository has since its manifest names them: nobody needs to ask for each."""
    return frozenset(str(blob["digest"]) for blob in blobs_of(manifest.value)) if manifest else frozenset()


def _push(
    client: Client,
    registries: Registries,
    image: Image,
    layers: Sequence[Layer],
    keys: Sequence[Digest | None],
    packer: Packer,
    packing: Packing,
    present: frozenset[str],
) -> tuple[Documents, int]:
    sent: list[Digest] = []

    def one(layer: Layer, key: Digest | None) -> PackedLayer:
        if key is None:
            return layer.created_by, None
        return layer.created_by, _settle_layer(client, layer, key, packer, present, sent.append)

    tasks = [partial(one, layer, key) for layer, key in zip(layers, keys, strict=True)]
    packed = run_all(tasks, AT_ONCE, registries)
    parts = documents(image, packed, packing.compression, "")
    put_bytes(client, parts.config, present)
    client.put_manifest(parts.digest, parts.manifest, MANIFEST_TYPE)
    return parts, len(sent)


def _settle_layer(
    client: Client,
    layer: Layer,
    key: Digest,
    packer: Packer,
    present: frozenset[str],
    sent: Callable[[Digest], object],
) -> Written:
    """See to it that the repository has a layer."""
    written = packer.known(key)
    if written is not None and (written.digest in present or client.has_blob(written.digest)):
        return written
    asked = written.digest if written is not None else None
    written, path = packer.pack(key, layer)
    try:
        if written.digest not in present and (written.digest == asked or not client.has_blob(written.digest)):
            client.put_blob(written.digest, Body(lambda: path.open("rb"), written.size))
            sent(written.digest)
        return written
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def put_bytes(client: Client, data: bytes, present: frozenset[str] = frozenset()) -> Digest:
    """See to it that the repository has a small blob; gives its digest."""
    digest = digest_of(data)
    if digest not in present and not client.has_blob(digest):
        client.put_blob(digest, Body(lambda: BytesIO(data), len(data)))
    return digest
