"""A tree as a tar, as it is or compressed."""

from __future__ import annotations

from pathlib import Path

from boxwright.images.artifact import WrittenArtifact
from boxwright.images.layer import Packing, write_layer
from boxwright.images.paths import fresh_file
from boxwright.model.image import Image
from boxwright.ports import TreeReader

_BY_ENDING = {
    ".gz": "gzip",
    ".tgz": "gzip",
    ".zst": "zstd",
    ".tzst": "zstd",
    ".xz": "xz",
    ".txz": "xz",
}


def compression_of(destination: Path) -> str:
    """What the ending of a file's name asks for."""
    return _BY_ENDING.get(destination.suffix.lower(), "none")


def write_tar(
    image: Image, reader: TreeReader, destination: Path, compression: str | None, level: int | None
) -> WrittenArtifact:
    """A tar of the tree."""
    packing = Packing(compression or compression_of(destination), level)
    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        written = write_layer(file, image, reader, packing)
    return WrittenArtifact("tar", destination, written.digest, written.size)
