"""What is pushed beside an image: its databases' content, bills of materials, provenance, signatures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boxwright.app.databases import attached_dump, dump_path
from boxwright.app.provenance import provenance_of, statement
from boxwright.app.registrypush import put_bytes
from boxwright.app.signing import (
    ARTIFACT_TYPE,
    ENVELOPE_TYPE,
    PAYLOAD_TYPE,
    PREDICATE,
    SIGNATURE,
    STATEMENT_TYPE,
    Signer,
    Verifier,
    envelope,
    is_signed,
    payload,
    unsigned,
)
from boxwright.images.referrers import DATABASE_TYPE, EMPTY, Subject, dump_layer, referrer
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import Image
from boxwright.repositories.registry.client import MANIFEST_TYPE, Client, fallback_tag
from boxwright.repositories.registry.referrers import put_referrer
from boxwright.repositories.registry.transport import Body
from boxwright.store.store import Store

SBOM_TYPES = {"spdx": "application/spdx+json", "cyclonedx": "application/vnd.cyclonedx+json"}
SBOM_PREDICATES = {"spdx": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom"}
TITLE = "org.opencontainers.image.title"
IN_TOTO_PREDICATE = "in-toto.io/predicate-type"


class Wanted(NamedTuple):
    """What goes beside an image. With a `signer` the image and each statement are signed."""

    sboms: tuple[str, ...] = ()
    provenance: bool = False
    signer: Signer | None = None


def attach_all(client: Client, image: Image, store: Store, subject: Subject, wanted: Wanted) -> list[str]:
    """Push what is wanted, and always the databases' content; gives what was pushed, in words."""
    done: list[str] = []
    for database in image.config.databases:
        if database.dump:
            attached = attached_dump(database, dump_path(store, database))
            _put_dump(client, attached.file, Digest(attached.digest), attached.size)
            _put(client, subject, DATABASE_TYPE, [dump_layer(attached)], dict(attached.notes))
            done.append(f"the content of {database.name}")
    for form in wanted.sboms:
        from boxwright.app.sbom import bill_of

        document = bill_of(image, store, form, str(client)).encode()
        _attach_document(client, subject, SBOM_TYPES[form], document, f"sbom.{form}.json")
        if wanted.signer is not None:
            _attest(client, subject, SBOM_PREDICATES[form], json.loads(document), wanted.signer)
        done.append(f"the bill of materials ({form})")
    if wanted.provenance:
        kind, predicate = provenance_of(image, store)
        if wanted.signer is not None:
            _attest(client, subject, kind, predicate, wanted.signer)
        else:
            text = statement(str(client), subject.digest, kind, predicate)
            _attach_document(client, subject, STATEMENT_TYPE, text, "provenance.json", {IN_TOTO_PREDICATE: kind})
        done.append("the provenance")
    if wanted.signer is not None:
        sign(client, subject, wanted.signer)
        done.append("the signature")
    return done


def _put_dump(client: Client, file: Path, digest: Digest, size: int) -> None:
    if not client.has_blob(digest):
        client.put_blob(digest, Body(lambda: file.open("rb"), size))


def _layer(data: bytes, media_type: str, notes: Mapping[str, str]) -> dict[str, Any]:
    return {"annotations": dict(notes), "digest": digest_of(data), "mediaType": media_type, "size": len(data)}


def _put(
    client: Client,
    subject: Subject,
    artifact_type: str,
    layers: Sequence[Mapping[str, Any]],
    notes: Mapping[str, str],
) -> bytes:
    put_bytes(client, EMPTY)
    manifest, descriptor = referrer(subject, artifact_type, layers, notes)
    put_referrer(client, subject.digest, manifest, descriptor)
    return manifest


def _attach_document(
    client: Client,
    subject: Subject,
    media_type: str,
    data: bytes,
    name: str,
    notes: Mapping[str, str] | None = None,
) -> None:
    put_bytes(client, data)
    _put(client, subject, media_type, [_layer(data, media_type, {TITLE: name, **(notes or {})})], notes or {})


def _attest(client: Client, subject: Subject, kind: str, predicate: object, signer: Signer) -> None:
    """A signed statement, where ``cosign verify-attestation`` looks for it too."""
    data = envelope(statement(str(client), subject.digest, kind, predicate), signer)
    put_bytes(client, data)
    layer = _layer(data, ENVELOPE_TYPE, {PREDICATE: kind, SIGNATURE: ""})
    old = [it for it in _layers_under(client, _cosign_tag(subject.digest, "att")) if _predicate(it) != kind]
    manifest = _put(client, subject, ENVELOPE_TYPE, [*old, layer], {})
    client.put_manifest(_cosign_tag(subject.digest, "att"), manifest, MANIFEST_TYPE)


def sign(client: Client, subject: Subject, signer: Signer) -> None:
    """Sign a manifest: as a referrer, and under the tag where cosign looks. Others' signatures stay."""
    data = payload(str(client), subject.digest)
    put_bytes(client, data)
    signature = base64.b64encode(signer.sign(data)).decode("ascii")
    layer = _layer(data, PAYLOAD_TYPE, {SIGNATURE: signature})
    tag = _cosign_tag(subject.digest, "sig")
    old = [it for it in _layers_under(client, tag) if it != layer]
    manifest = _put(client, subject, ARTIFACT_TYPE, [*old, layer], {})
    client.put_manifest(tag, manifest, MANIFEST_TYPE)


def verify(client: Client, digest: Digest, verifier: Verifier) -> None:
    """Raise BoxwrightError `registry.signature` unless the key signed this manifest."""
    references = [str(it["digest"]) for it in client.referrers(digest) if it.get("artifactType") == ARTIFACT_TYPE]
    for reference in (_cosign_tag(digest, "sig"), *references):
        for layer in _layers_under(client, reference):
            if layer.get("mediaType") != PAYLOAD_TYPE:
                continue
            data = client.small_blob(Digest(str(layer["digest"])))
            if is_signed(layer, data, digest, verifier):
                return
    raise unsigned(f"{client}@{digest}")


def _layers_under(client: Client, reference: str) -> list[Mapping[str, Any]]:
    found = client.manifest(reference)
    layers = found.value.get("layers") if found else None
    items = layers if isinstance(layers, list) else []
    return [it for it in items if isinstance(it, dict) and str(it.get("digest", "")).startswith("sha256:")]


def _predicate(layer: Mapping[str, Any]) -> str:
    notes = layer.get("annotations")
    return str(notes.get(PREDICATE, "")) if isinstance(notes, dict) else ""


def _cosign_tag(digest: Digest, kind: str) -> str:
    return f"{fallback_tag(digest)}.{kind}"
