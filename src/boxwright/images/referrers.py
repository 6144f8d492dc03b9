"""What belongs to an image in an OCI layout: manifests that name it as their subject (OCI image-spec, manifest.md)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from boxwright.images.config import canonical_json
from boxwright.images.oci import MANIFEST_TYPE, add_to_index, blob_path, locked, settle
from boxwright.images.paths import telling, temporary_beside
from boxwright.model.digest import Digest, digest_of

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
DATABASE_TYPE = "application/vnd.boxwright.database.v1"
SQL_TYPE = "application/sql"


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that belongs to an image: what it is called, its digest and size, and notes about it."""

    file: Path
    name: str
    digest: str
    size: int
    notes: tuple[tuple[str, str], ...]


class Subject(NamedTuple):
    """The manifest that a referrer belongs to."""

    digest: Digest
    size: int
    media_type: str = MANIFEST_TYPE


def referrer(
    subject: Subject, artifact_type: str, layers: Sequence[Mapping[str, Any]], notes: Mapping[str, str]
) -> tuple[bytes, dict[str, Any]]:
    """The manifest of an artifact that belongs to `subject`, and its descriptor (manifest.md, "Artifacts Usage")."""
    manifest = canonical_json(
        {
            **({"annotations": notes} if notes else {}),
            "artifactType": artifact_type,
            "config": {"data": "e30=", "digest": digest_of(EMPTY), "mediaType": EMPTY_TYPE, "size": len(EMPTY)},
            "layers": layers,
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
            "subject": {"digest": subject.digest, "mediaType": subject.media_type, "size": subject.size},
        }
    )
    descriptor = {
        **({"annotations": notes} if notes else {}),
        "artifactType": artifact_type,
        "digest": digest_of(manifest),
        "mediaType": MANIFEST_TYPE,
        "size": len(manifest),
    }
    return manifest, descriptor


def dump_layer(attached: Attached) -> dict[str, Any]:
    """The descriptor of a database's dump."""
    return {
        "annotations": {"org.opencontainers.image.title": attached.name},
        "digest": attached.digest,
        "mediaType": SQL_TYPE,
        "size": attached.size,
    }


def attach(layout: Path, subject: Digest, attached: Attached) -> Digest:
    """Add a database's dump to a layout, as a referrer of the manifest `subject`; returns its manifest's digest."""
    image = Subject(subject, (layout / blob_path(subject)).stat().st_size)
    manifest, descriptor = referrer(image, DATABASE_TYPE, [dump_layer(attached)], dict(attached.notes))
    # As attestations do it, so that nobody takes it for an image.
    descriptor["platform"] = {"architecture": "unknown", "os": "unknown"}
    with telling(layout), ExitStack() as undo, locked(layout):
        for digest, data in (
            (attached.digest, attached.file),
            (digest_of(EMPTY), EMPTY),
            (digest_of(manifest), manifest),
        ):
            temporary = temporary_beside(layout / "blobs" / "sha256" / "referrer")
            undo.callback(temporary.unlink, missing_ok=True)
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                shutil.copyfile(data, temporary)
            settle(undo, temporary, layout / blob_path(Digest(digest)))
        add_to_index(undo, layout, descriptor, "")
        undo.pop_all()
    return digest_of(manifest)
