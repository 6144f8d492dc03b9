"""OCI image layouts, as a directory or in a tar (OCI image-spec, image-layout.md)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

from boxwright.errors import UsageError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.config import (
    IDENTITY_ANNOTATION,
    PORTS_LABEL,
    Step,
    canonical_json,
    image_config,
    ports_text,
    rfc3339,
)
from boxwright.images.layer import Layer, Packing, flat
from boxwright.images.paths import fresh_directory, fresh_file, is_empty, not_empty, telling, temporary_beside
from boxwright.images.streams import Written
from boxwright.images.tarheader import BLOCK_SIZE, END, member_header, small_directory, small_file
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.model.image import Image
from boxwright.model.tree import FILE, Entry
from boxwright.ports import TreeReader

LAYOUT = canonical_json({"imageLayoutVersion": "1.0.0"})
REF_NAME = "org.opencontainers.image.ref.name"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


PackedLayer = tuple[str, Written | None]
"""An entry of the history: what made it, and its layer if it has one."""


@dataclass(frozen=True, slots=True)
class Documents:
    """The JSON around layers. `descriptor` is the image's place in an index."""

    config: bytes
    manifest: bytes
    descriptor: dict[str, Any]

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return digest_of(self.manifest)


def documents(image: Image, layers: Sequence[PackedLayer], compression: str, name: str) -> Documents:
    """Configuration, manifest and descriptor of an image with these layers."""
    steps = [Step(text, layer.plain_digest if layer else None) for text, layer in layers]
    packed = [layer for _, layer in layers if layer]
    config = image_config(image, steps)
    annotations = {"org.opencontainers.image.created": rfc3339(image.created), IDENTITY_ANNOTATION: image.identity}
    if image.config.published:
        annotations[PORTS_LABEL] = ports_text(image.config.published)
    manifest = canonical_json(
        {
            "annotations": annotations,
            "config": {"digest": digest_of(config), "mediaType": CONFIG_TYPE, "size": len(config)},
            "layers": [
                {"digest": layer.digest, "mediaType": LAYER_TYPES[compression], "size": layer.size} for layer in packed
            ],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
        }
    )
    platform = {"architecture": image.config.architecture, "os": image.config.os}
    if image.config.variant:
        platform["variant"] = image.config.variant
    notes = {IDENTITY_ANNOTATION: str(image.identity)}
    if name:
        notes[REF_NAME] = name
    descriptor = {
        "annotations": notes,
        "digest": digest_of(manifest),
        "mediaType": MANIFEST_TYPE,
        "platform": platform,
        "size": len(manifest),
    }
    return Documents(config, manifest, descriptor)


def check_packing(packing: Packing) -> None:
    """UsageError for a compression that OCI has no media type for (layer.md, "Media Types")."""
    if packing.compression not in LAYER_TYPES:
        known = ", ".join(LAYER_TYPES)
        raise UsageError(
            "output.unknown-compression", f"OCI layers can't be {packing.compression!r}", hint=f"one of {known}"
        )


def index_json(manifests: list[dict[str, Any]]) -> bytes:
    """A layout's index.json (image-index.md)."""
    return canonical_json({"manifests": manifests, "mediaType": INDEX_TYPE, "schemaVersion": 2})


def write_archive(
    image: Image,
    reader: TreeReader,
    destination: Path,
    name: str,
    packing: Packing,
    layers: Sequence[Layer] = (),
) -> WrittenArtifact:
    """A layout in a tar. Layers come first, each under a header that is filled in when its digest is known.

    Without `layers` the image is flat.
    """
    check_packing(packing)
    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        time = max(image.created, 0)
        head = small_directory("blobs/", time) + small_directory("blobs/sha256/", time)
        file.write(head)
        blobs: set[str] = set()
        packed = [
            (layer.created_by, _archived(file, layer, packing, time, blobs)) for layer in layers or flat(image, reader)
        ]
        parts = documents(image, packed, packing.compression, name)
        for path, data in (
            (blob_path(digest_of(parts.config)), parts.config),
            (blob_path(parts.digest), parts.manifest),
            ("index.json", index_json([parts.descriptor])),
            ("oci-layout", LAYOUT),
        ):
            file.write(small_file(path, data, time))
        file.write(END)
        size = file.tell()
    return WrittenArtifact("oci-archive", destination, parts.digest, size, digest_of(parts.config))


def _archived(file: BufferedWriter, layer: Layer, packing: Packing, time: int, blobs: set[str]) -> Written | None:
    """Append a layer to an archive, unless one of the `blobs` in it is the same."""
    if layer.members is None:
        return None
    start = file.tell()
    file.write(bytes(BLOCK_SIZE))
    written = layer.write(file, packing)
    path = blob_path(written.digest)
    file.seek(start)
    if path in blobs:
        file.truncate()
        return written
    blobs.add(path)
    file.write(_blob_header(path, written.size, time))
    file.seek(0, os.SEEK_END)
    file.write(bytes(-written.size % BLOCK_SIZE))
    return written


def _blob_header(path: str, size: int, mtime: int) -> bytes:
    """The header of the layer: one block, whatever the size up to 8 GiB."""
    header = member_header(path.encode(), Entry(FILE, "", 0o644, 0, 0, mtime, size, ""), None)
    if len(header) != BLOCK_SIZE:
        raise UsageError(
            "output.layer-too-big", "a layer of 8 GiB or more does not fit into an archive", hint="use -o oci:DIRECTORY"
        )
    return header


def blob_path(digest: Digest) -> str:
    """Where a layout keeps a blob."""
    return f"blobs/sha256/{hex_of(digest)}"


def write_layout(
    image: Image,
    reader: TreeReader,
    destination: Path,
    name: str,
    packing: Packing,
    layers: Sequence[Layer] = (),
) -> WrittenArtifact:
    """A layout in a directory: a new one, or one more image in what is there already. Without `layers` it is flat."""
    layers = layers or flat(image, reader)
    check_packing(packing)
    with telling(destination):
        if is_empty(destination):
            with fresh_directory(destination) as temporary:
                (temporary / "blobs" / "sha256").mkdir(parents=True)
                (temporary / "oci-layout").write_bytes(LAYOUT)
                parts, size = _add(image, temporary, name, packing, layers)
            return WrittenArtifact("oci", destination, parts.digest, size, digest_of(parts.config))
        if not (destination / "oci-layout").is_file() or not (destination / "index.json").is_file():
            raise not_empty(destination, "an OCI layout")
        (destination / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        parts, size = _add(image, destination, name, packing, layers)
        return WrittenArtifact("oci", destination, parts.digest, size, digest_of(parts.config))


def _add(image: Image, layout: Path, name: str, packing: Packing, layers: Sequence[Layer]) -> tuple[Documents, int]:
    """Add an image's blobs to a layout and its descriptor to the index; when that fails, no new blob stays."""
    blobs = layout / "blobs" / "sha256"
    with ExitStack() as undo:
        packed: list[PackedLayer] = []
        written_to: list[tuple[Path, Path]] = []
        for layer in layers:
            if layer.members is None:
                packed.append((layer.created_by, None))
                continue
            temporary = temporary_beside(blobs / f"layer-{len(written_to)}")
            undo.callback(temporary.unlink, missing_ok=True)
            with temporary.open("xb") as file:
                done = layer.write(file, packing)
            packed.append((layer.created_by, done))
            written_to.append((temporary, layout / blob_path(done.digest)))
        parts = documents(image, packed, packing.compression, name)
        with locked(layout):
            for temporary, blob in written_to:
                settle(undo, temporary, blob)
            for data in (parts.config, parts.manifest):
                written = temporary_beside(blobs / "json")
                undo.callback(written.unlink, missing_ok=True)
                written.write_bytes(data)
                settle(undo, written, layout / blob_path(digest_of(data)))
            add_to_index(undo, layout, parts.descriptor, name)
            undo.pop_all()
    size = sum(layer.size for _, layer in packed if layer)
    return parts, size + len(parts.config) + len(parts.manifest)


def settle(undo: ExitStack, written: Path, blob: Path) -> None:
    """Put a blob in its place, whole; one that was there stays."""
    if blob.exists():
        written.unlink()
        return
    undo.callback(blob.unlink, missing_ok=True)
    written.rename(blob)


def add_to_index(undo: ExitStack, layout: Path, descriptor: dict[str, Any], name: str) -> None:
    """Put `descriptor` into the index, in the place of the one with the same name."""
    path = layout / "index.json"
    index: dict[str, Any] = {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}
    if path.exists():
        index = _read_index(path)
    others = [other for other in index["manifests"] if not _is_replaced(other, descriptor, name)]
    index["manifests"] = [*others, descriptor]
    temporary = temporary_beside(path)
    undo.callback(temporary.unlink, missing_ok=True)
    temporary.write_bytes(canonical_json(index))
    temporary.replace(path)


def _is_replaced(other: dict[str, Any], descriptor: dict[str, Any], name: str) -> bool:
    """Whether `other` goes: it has the same name, or is the same image and neither has one."""
    named = (other.get("annotations") or {}).get(REF_NAME, "")
    if name:
        return bool(named == name)
    return not named and bool(other.get("digest") == descriptor["digest"])


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise not_empty(path.parent, "an OCI layout that can be read") from error
    if not isinstance(index, dict) or not isinstance(index.get("manifests"), list):
        raise not_empty(path.parent, "an OCI layout that can be read")
    return index


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this program from changing the same layout."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
