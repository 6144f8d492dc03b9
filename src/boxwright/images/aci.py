"""An App Container Image: a tar of `manifest` and rootfs/ (App Container Specification 0.8.11, "Image Archives")."""

from __future__ import annotations

import json
import re
from pathlib import Path

from boxwright.errors import UsageError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.config import canonical_json, rfc3339
from boxwright.images.layer import Packing
from boxwright.images.paths import fresh_file
from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import write_stream
from boxwright.images.tarheader import small_file
from boxwright.images.tarstream import write_end, write_tree
from boxwright.model.image import Image
from boxwright.ports import TreeReader

VERSION = "0.8.11"
COMPRESSIONS = ("none", "gzip", "xz")
ARCHITECTURES = {"amd64": "amd64", "386": "i386", "arm64": "aarch64", "arm": "armv7l"}


def write_aci(
    image: Image, reader: TreeReader, destination: Path, name: str, packing: Packing, manifest: str = ""
) -> WrittenArtifact:
    """Write it, with `manifest` as it is given, else with one made from the configuration."""
    if packing.compression not in COMPRESSIONS:
        raise UsageError(
            "output.unknown-compression",
            f"an ACI can't be {packing.compression!r}",
            hint=f"one of {', '.join(COMPRESSIONS)}",
        )
    data = canonical_json(json.loads(manifest) if manifest else manifest_of(image, name))

    def produce(out: Pipeline) -> None:
        out.write(small_file("manifest", data, max(image.created, 0)))
        write_tree(out, reader, image.snapshot, "rootfs/")
        write_end(out)

    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        written = write_stream(file, produce, packing.compression, packing.level)
    return WrittenArtifact("aci", destination, written.digest, written.size)


def manifest_of(image: Image, name: str) -> dict[str, object]:
    """The manifest of an image that has none of its own."""
    config = image.config
    repository, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    labels = {"os": config.os, "arch": ARCHITECTURES.get(config.architecture, config.architecture)}
    if colon:
        labels["version"] = tag
    value: dict[str, object] = {
        "acKind": "ImageManifest",
        "acVersion": VERSION,
        "name": _identifier(repository) or "image",
        "labels": [{"name": key, "value": labels[key]} for key in sorted(labels)],
        "annotations": [{"name": "created", "value": rfc3339(max(image.created, 0))}],
    }
    command = [*(config.entrypoint or ()), *(config.cmd or ())]
    if command:
        value["app"] = _app(image, command)
    return value


def _app(image: Image, command: list[str]) -> dict[str, object]:
    config = image.config
    user, _, group = config.user.partition(":")
    app: dict[str, object] = {"exec": command, "user": user or "0", "group": group or user or "0"}
    if config.workdir:
        app["workingDirectory"] = config.workdir
    if config.env:
        app["environment"] = [{"name": key, "value": value} for key, value in config.env]
    ports = {f"port-{port.container}-{port.protocol}": port for port in (*config.exposed, *config.published)}
    if ports:
        app["ports"] = [
            {"name": key, "port": port.container, "protocol": port.protocol} for key, port in sorted(ports.items())
        ]
    if config.volumes:
        app["mountPoints"] = [
            {"name": _identifier(path.replace("/", "-")) or "root", "path": path} for path in config.volumes
        ]
    return app


def _identifier(text: str) -> str:
    """`text` as an AC Identifier: lower case, and separators only between other characters."""
    lower = re.sub(r"[^a-z0-9._~/-]+", "-", text.lower())
    return re.sub(r"([-._~/])[-._~/]+", r"\1", lower).strip("-._~/")
