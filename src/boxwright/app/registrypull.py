"""An image from a registry into the store: mirrors first, only blobs that are not here, everything verified."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from boxwright.app.blobcache import BlobCache, CachedFiles, checked_size, document_name
from boxwright.app.databases import fetched_databases
from boxwright.app.keptlayers import KeptLayers
from boxwright.app.privileges import ensure_privileges
from boxwright.app.registries import Registries
from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.model.image import Image, Snapshot
from boxwright.model.keys import key_of
from boxwright.repositories.registry.client import Client, Manifest, blobs_of
from boxwright.repositories.registry.failures import RegistryError
from boxwright.sources.oci import choose_platform, find_layout, flatten
from boxwright.sources.reference import RegistryName
from boxwright.store.images import Images
from boxwright.store.store import Store

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_FINAL = frozenset({"registry.digest", "oci.digest", "registry.signature"})


class Pulled(NamedTuple):
    """What a pull came to. `digest` is of the manifest that the name stands for, `received` in bytes."""

    image: Image
    digest: Digest
    received: int
    known: bool


Check = Callable[[Client, Digest], None]
"""What must be true of a manifest before anything of it is used; raises where it isn't."""


def pull_image(
    name: RegistryName, platform: str, registries: Registries, store: Store, tags: tuple[str, ...], check: Check | None
) -> Pulled:
    """Fetch an image and give it names. The first mirror that has it is used; a lying one is an error."""
    last: BoxwrightError | None = None
    for client in _clients(name, registries):
        try:
            top = client.manifest(name.digest or name.tag)
            if top is not None:
                return _pull(client, registries, top, platform, store, tags, check)
        except RegistryError as error:
            if error.code in _FINAL:
                raise
            last = error
    if last is not None:
        raise last
    raise RegistryError(
        "registry.not-found", f"{name} is not there", hint="are its name and its tag right?", status=404
    )


def _clients(name: RegistryName, registries: Registries) -> Iterator[Client]:
    route = registries.route(name)
    mirrors = (*route.mirrors, *(route.by_digest if name.digest else ()))
    for place in (*mirrors, route.home):
        yield registries.client(place)


def _pull(
    client: Client,
    registries: Registries,
    top: Manifest,
    platform: str,
    store: Store,
    tags: tuple[str, ...],
    check: Check | None,
) -> Pulled:
    if check is not None:
        check(client, top.digest)
    documents = {document_name(top.data): top.data}
    manifest = top
    if top.is_index:
        chosen = str(choose_platform(top.value, platform)["digest"])
        found = client.manifest(chosen)
        if found is None or found.is_index:
            raise RegistryError("registry.not-found", f"{client}: the index names {chosen}, which is no image there")
        manifest = found
        documents[document_name(found.data)] = found.data
    known = known_image(store, manifest.digest)
    if known is not None:
        for tag in tags:
            Images(store).tag(known, tag)
        return Pulled(known, top.digest, 0, known=True)
    ensure_privileges()
    cache, kept = BlobCache(store), KeptLayers(store)
    blobs = [checked_size(blob) for blob in blobs_of(manifest.value)]
    received = cache.fetch_all(client, [it for it in blobs if kept.members(it[0]) is None], registries)
    documents |= {"oci-layout": LAYOUT, "index.json": _index(manifest)}
    image = _unpack(client, manifest, CachedFiles(cache, documents), kept, platform, store, tags)
    return Pulled(image, top.digest, received, known=False)


def _index(manifest: Manifest) -> bytes:
    descriptor = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.data)}
    return json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()


def _unpack(
    client: Client,
    manifest: Manifest,
    files: CachedFiles,
    kept: KeptLayers,
    platform: str,
    store: Store,
    tags: tuple[str, ...],
) -> Image:
    opened = find_layout(files, platform)
    key = key_of("Pulled", (("manifest", manifest.digest),))
    snapshot = store.snapshot(key)
    if snapshot is None:
        with store.draft(None) as draft:
            flatten(files, opened, draft.upper, kept)
            made = store.commit(key, None, draft, newest=None)
        created = _created(manifest, made)
        snapshot = store.alias(key, made._replace(epoch=created))
    config = fetched_databases(opened.config, client, manifest.digest, store)
    image = Images(store).keep(config, snapshot, tags)
    remember_image(store, manifest.digest, image)
    return image


def _created(manifest: Manifest, snapshot: Snapshot) -> int:
    """When the image says that it was made."""
    annotations = manifest.value.get("annotations")
    text = annotations.get("org.opencontainers.image.created") if isinstance(annotations, dict) else None
    with suppress(ValueError, TypeError, OverflowError):
        return int(datetime.fromisoformat(str(text)).timestamp())
    return snapshot.epoch


def remember_image(store: Store, manifest: Digest, image: Image) -> None:
    """Note which image a manifest is, so that a pull of it fetches nothing."""
    with store.index.writing() as db:
        values = (f"manifest {manifest}", image.identity, int(time.time()))
        db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", values)


def known_image(store: Store, manifest: Digest) -> Image | None:
    """The image of a manifest that was pushed or pulled here."""
    row = store.index.one("SELECT value FROM artifacts WHERE key=?", (f"manifest {manifest}",))
    return Images(store).load(Digest(row[0])) if row else None
