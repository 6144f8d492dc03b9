"""The archive of `docker save` and `docker load`.

Docker image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import re
from pathlib import Path

from boxwright.images.artifact import WrittenArtifact
from boxwright.images.config import canonical_json, image_config
from boxwright.images.layer import Packing, write_layer
from boxwright.images.paths import fresh_file
from boxwright.images.streams import Sink
from boxwright.images.tarheader import END, member_header, small_file
from boxwright.images.tarstream import changed, tree_size
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.model.image import Image
from boxwright.model.tree import FILE, Entry
from boxwright.ports import TreeReader

_TAGGED = re.compile(r":[^/:]+$")
_LAYER = "layer.tar"


def tag_of(name: str) -> str:
    """`name` as RepoTags wants it, with a tag."""
    return name if not name or _TAGGED.search(name) else f"{name}:latest"


def write_archive(image: Image, reader: TreeReader, destination: Path, name: str) -> WrittenArtifact:
    """An archive in a file."""
    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        config = stream_archive(file, image, reader, name)
        size = file.tell()
    return WrittenArtifact("docker-archive", destination, config, size, config)


def stream_archive(sink: Sink, image: Image, reader: TreeReader, name: str) -> Digest:
    """An archive to anything, a pipe too: the layer's size is known from the manifest.

    Gives the digest of the configuration, the image ID that Docker shows.
    """
    time = max(image.created, 0)
    size = tree_size(reader, image.snapshot)
    sink.write(member_header(_LAYER.encode(), Entry(FILE, "", 0o644, 0, 0, time, size, ""), None))
    layer = write_layer(sink, image, reader, Packing("none"))
    if layer.size != size:
        raise changed("", f"its archive has {layer.size} bytes instead of {size}")
    config = image_config(image, layer.plain_digest)
    file_name = f"{hex_of(digest_of(config))}.json"
    tags = [tag_of(name)] if name else None
    manifest = canonical_json([{"Config": file_name, "Layers": [_LAYER], "RepoTags": tags}])
    sink.write(small_file(file_name, config, time) + small_file("manifest.json", manifest, time) + END)
    return digest_of(config)
