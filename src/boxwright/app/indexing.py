"""Images of several platforms under one name: an OCI image index in a registry (image-index.md)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from boxwright.app.copying import copy_into
from boxwright.app.layering import AUTO, parse_layering, shared_out
from boxwright.app.registries import Registries
from boxwright.app.registrypush import push_image
from boxwright.app.sides import FromRegistry, IntoRegistry
from boxwright.errors import UsageError
from boxwright.images.config import canonical_json
from boxwright.images.layer import Packing
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import Image
from boxwright.repositories.registry.client import INDEX_TYPE, Client, Manifest, descriptors
from boxwright.repositories.registry.failures import RegistryError
from boxwright.sources.reference import RegistryName
from boxwright.store.store import Store


def make_index(
    name: RegistryName,
    images: Sequence[Image | RegistryName],
    registries: Registries,
    store: Store,
    packing: Packing,
    *,
    append: bool = False,
) -> tuple[Digest, list[str]]:
    """Put images of the store or of registries under one name; gives the index's digest and its platforms.

    With `append` those that are there stay, but for the same platforms. Raises UsageError `index.twice`.
    """
    client = registries.client(registries.route(name).home, push=True)
    entries: dict[str, Mapping[str, Any]] = {}
    if append:
        present = client.manifest(name.tag)
        entries = {platform_text(it): it for it in (_of_manifest(client, present) if present else ())}
    fresh: dict[str, Mapping[str, Any]] = {}
    for image in images:
        if isinstance(image, Image):
            layers = shared_out(image, store, parse_layering(AUTO))
            pushed = push_image(image, layers, name, registries, store, packing, tagged=False)
            found: Iterator[Mapping[str, Any]] = iter([pushed.descriptor])
        else:
            found = _from_registry(image, client, registries)
        for entry in found:
            platform = platform_text(entry)
            if fresh.get(platform, entry)["digest"] != entry["digest"]:
                raise UsageError("index.twice", f"two images are for {platform}", hint="one for each platform")
            fresh[platform] = entry
    entries |= fresh
    manifests = [entries[platform] for platform in sorted(entries)]
    data = canonical_json({"manifests": manifests, "mediaType": INDEX_TYPE, "schemaVersion": 2})
    client.put_manifest(name.tag, data, INDEX_TYPE)
    return digest_of(data), sorted(entries)


def platform_text(descriptor: Mapping[str, Any]) -> str:
    """``OS/ARCHITECTURE[/VARIANT]``; what is for no platform (attestations) is told apart by its digest."""
    platform = descriptor.get("platform")
    fields = platform if isinstance(platform, dict) else {}
    parts = [str(fields[key]) for key in ("os", "architecture", "variant") if fields.get(key)]
    if not parts or parts[0] == "unknown":
        return str(descriptor["digest"])
    return "/".join(parts)


def _from_registry(name: RegistryName, target: Client, registries: Registries) -> Iterator[Mapping[str, Any]]:
    """Take an image, or all that an index names, into the target's repository."""
    source = registries.client(registries.route(name).home)
    top = source.manifest(name.digest or name.tag)
    if top is None:
        raise RegistryError("registry.not-found", f"{name} is not there", hint="are its name and its tag right?")
    if source.place != target.place:
        near = name.repository if source.place.host == target.place.host else ""
        with tempfile.TemporaryDirectory(prefix="boxwright-index-") as scratch:
            copy_into(FromRegistry(source, top.digest), IntoRegistry(target, "", near), scratch, registries)
    yield from _of_manifest(target, top)


def _of_manifest(client: Client, manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """The descriptors for an index: its own, or one with the platform of the image's configuration."""
    if manifest.is_index:
        yield from descriptors(manifest.value)
        return
    config = manifest.value.get("config")
    if not isinstance(config, dict):
        raise RegistryError("registry.bad-answer", f"{client}: {manifest.digest} is no image")
    try:
        value = json.loads(client.small_blob(Digest(str(config.get("digest")))))
        fields = {key: str(value[key]) for key in ("architecture", "os", "variant") if value.get(key)}
    except (ValueError, TypeError, AttributeError) as error:
        raise RegistryError("registry.bad-answer", f"{client}: {manifest.digest} has no configuration") from error
    yield {
        "digest": manifest.digest,
        "mediaType": manifest.media_type,
        "platform": fields,
        "size": len(manifest.data),
    }
