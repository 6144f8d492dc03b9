"""What belongs to an image in a registry: named by the image's digest, as the registry keeps it.

Where the registry has no referrers of its own (before distribution 3), they stand in an index under a tag
(distribution-spec, "Pushing Manifests with Subject", "Referrers Tag Schema"). Nobody can lock a tag: who writes there
looks afterwards whether another one's change won, and tries again.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

from boxwright.model.digest import Digest
from boxwright.repositories.registry.client import INDEX_TYPE, MANIFEST_TYPE, Client, descriptors, fallback_tag
from boxwright.repositories.registry.failures import RegistryError

_TRIES = 8
_PAUSE = 0.1


def put_referrer(client: Client, subject: Digest, manifest: bytes, descriptor: Mapping[str, Any]) -> None:
    """Push a manifest that has a subject; its blobs are there. Raises RegistryError."""
    if not client.put_manifest(str(descriptor["digest"]), manifest, MANIFEST_TYPE):
        _add_to_tag(client, subject, descriptor)


def _add_to_tag(client: Client, subject: Digest, descriptor: Mapping[str, Any]) -> None:
    tag = fallback_tag(subject)
    for attempt in range(_TRIES):
        found = client.manifest(tag)
        present = descriptors(found.value) if found else []
        if any(it["digest"] == descriptor["digest"] for it in present):
            if attempt == 0 or _stays(client, tag, descriptor):
                return
            continue
        index = {"manifests": [*present, descriptor], "mediaType": INDEX_TYPE, "schemaVersion": 2}
        client.put_manifest(tag, json.dumps(index, sort_keys=True, separators=(",", ":")).encode(), INDEX_TYPE)
        time.sleep(_PAUSE * attempt * random.random())  # noqa: S311 - no secret
    if not _stays(client, tag, descriptor):
        hint = "push again when nobody else does"
        raise RegistryError("registry.busy", f"{client}: others keep changing what belongs to {subject}", hint=hint)


def _stays(client: Client, tag: str, descriptor: Mapping[str, Any]) -> bool:
    found = client.manifest(tag)
    return found is not None and any(it["digest"] == descriptor["digest"] for it in descriptors(found.value))
