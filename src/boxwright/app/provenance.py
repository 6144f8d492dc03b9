"""Where an image is from, as an in-toto statement (in-toto/attestation, spec/v1; slsa.dev, "Provenance" v1).

It is made of the build's graph when the image is built, and kept beside the image. Values of build arguments are left
out, since people put secrets there; of secrets there is nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from boxwright import __version__
from boxwright.app.build import Build
from boxwright.app.request import BuildRequest
from boxwright.errors import BoxwrightError
from boxwright.images.config import canonical_json, rfc3339
from boxwright.model.digest import Digest, hex_of
from boxwright.model.giturl import redacted
from boxwright.model.image import Image
from boxwright.model.step import Base, Fetch
from boxwright.store.store import Store

STATEMENT = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://boxwright.dev/build/v1"
BUILDER = "https://boxwright.dev/local"


def keep_provenance(build: Build, request: BuildRequest, image: Image, store: Store, *, started: int) -> None:
    """Remember where an image is from that was just built."""
    external: dict[str, Any] = {
        "definition": build.definition.rpartition("/")[2],
        "target": request.target,
        "platform": f"{image.config.os}/{image.config.architecture}",
        "network": request.network,
        "buildArguments": sorted(request.build_args),
        "labels": dict(request.labels),
    }
    keys = [build.keys.of(position).key for position in range(len(build.graph.nodes))]
    steps = [
        {"kind": type(node.step).__name__, "key": key or ""}
        for node, key in zip(build.graph.nodes, keys, strict=True)
        if key is not None
    ]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {name: value for name, value in external.items() if value},
            "internalParameters": {"identity": image.identity, "sourceDateEpoch": build.moment.epoch, "steps": steps},
            "resolvedDependencies": list(_materials(build)),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"boxwright": __version__}},
            "metadata": {"startedOn": rfc3339(started), "finishedOn": rfc3339(int(time.time()))},
        },
    }
    text = canonical_json({"type": SLSA, "predicate": predicate}).decode("utf-8", "surrogateescape")
    with store.index.writing() as db:
        db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", (_name(image), text, int(time.time())))


def _materials(build: Build) -> Iterator[dict[str, Any]]:
    """What came from outside: bases and fetched files, each with its digests (ResourceDescriptor)."""
    for position, node in enumerate(build.graph.nodes):
        snapshot = build.keys.snapshot(position)
        if snapshot is None:
            continue
        tree = {"boxwrightTree": hex_of(snapshot.manifest.content)}
        if isinstance(node.step, Base):
            pinned = {"sha256": hex_of(node.step.pinned)} if node.step.pinned else {}
            yield {"uri": f"{node.step.source}:{redacted(node.step.name)}", "digest": {**pinned, **tree}}
        elif isinstance(node.step, Fetch):
            yield {"uri": redacted(node.step.location), "digest": tree}


def provenance_of(image: Image, store: Store) -> tuple[str, dict[str, Any]]:
    """The predicate's type and the predicate. Raises BoxwrightError `push.no-provenance`."""
    row = store.index.one("SELECT value FROM artifacts WHERE key=?", (_name(image),))
    if row is None:
        hint = "it was not built here, or long ago: build it again"
        raise BoxwrightError("push.no-provenance", "it is not known how this image was built", hint=hint)
    kept = json.loads(row[0])
    return kept["type"], kept["predicate"]


def statement(name: str, digest: Digest, kind: str, predicate: object) -> bytes:
    """A statement about the manifest `digest`, which is called `name`."""
    subject = [{"name": name, "digest": {"sha256": hex_of(digest)}}]
    return canonical_json({"_type": STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate})


def _name(image: Image) -> str:
    return f"provenance {image.identity}"
