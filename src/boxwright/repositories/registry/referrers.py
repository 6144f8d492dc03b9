"""What belongs to an image in a registry: named by the image's digest, as the registry keeps it.

Where the registry has no referrers of its own (before distribution 3), they stand in an index under a tag
(distribution-spec, "Pushing Manifests with Subject", "Referrers Tag Schema"). Nobody can lock a tag: who writes there
looks again when everybody who read before that has written, and adds it anew where another one's change won.
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
_SETTLED = 0.3
"""Seconds at least in which another one who read the index before our change has written its own."""
_SLOWER = 5
"""How much longer than ours another one's read and write may take."""


def put_referrer(client: Client, subject: Digest, manifest: bytes, descriptor: Mapping[str, Any]) -> None:
    """Push a manifest that has a subject; its blobs are there. Raises RegistryError."""
    if not client.put_manifest(str(descriptor["digest"]), manifest, MANIFEST_TYPE):
        _add_to_tag(client, subject, descriptor)


def _add_to_tag(client: Client, subject: Digest, descriptor: Mapping[str, Any]) -> None:
    tag = fallback_tag(subject)
    for _ in range(_TRIES):
        start = time.monotonic()
        found = client.manifest(tag)
        present = descriptors(found.value) if found else []
        if any(it["digest"] == descriptor["digest"] for it in present):
            return
        index = {"manifests": [*present, descriptor], "mediaType": INDEX_TYPE, "schemaVersion": 2}
        client.put_manifest(tag, json.dumps(index, sort_keys=True, separators=(",", ":")).encode(), INDEX_TYPE)
        settled = max(_SETTLED, _SLOWER * (time.monotonic() - start))
        time.sleep(settled * (1 + random.random()))  # noqa: S311 - no secret
    if not _stays(client, tag, descriptor):
        hint = "push again when nobody else does"
        raise RegistryError("registry.busy", f"{client}: others keep changing what belongs to {subject}", hint=hint)


def _stays(client: Client, tag: str, descriptor: Mapping[str, Any]) -> bool:
    found = client.manifest(tag)
    return found is not None and any(it["digest"] == descriptor["digest"] for it in descriptors(found.value))
