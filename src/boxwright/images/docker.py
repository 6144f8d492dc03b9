"""The archive of `docker save` and `docker load`.

Docker image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from boxwright.images.artifact import WrittenArtifact
from boxwright.images.config import Step, canonical_json, image_config
from boxwright.images.layer import Layer, Packing, flat
from boxwright.images.paths import fresh_file
from boxwright.images.streams import Sink
from boxwright.images.tarheader import END, member_header, small_file
from boxwright.images.tarstream import changed
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.model.image import Image
from boxwright.model.tree import FILE, Entry
from boxwright.ports import TreeReader

_TAGGED = re.compile(r":[^/:]+$")
_LAYER = "layer.tar"


def tag_of(name: str) -> str:
    """`name` as RepoTags wants it, with a tag."""
    return name if not name or _TAGGED.search(name) else f"{name}:latest"


def write_archive(
    image: Image, reader: TreeReader, destination: Path, name: str, layers: Sequence[Layer] = ()
) -> WrittenArtifact:
    """An archive in a file."""
    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        config = stream_archive(file, image, reader, name, layers)
        size = file.tell()
    return WrittenArtifact("docker-archive", destination, config, size, config)


def stream_archive(sink: Sink, image: Image, reader: TreeReader, name: str, layers: Sequence[Layer] = ()) -> Digest:
    """An archive to anything, a pipe too: the layers' sizes are known from the manifests. Without `layers` it is flat.

    Gives the digest of the configuration, the image ID that Docker shows.
    """
    time = max(image.created, 0)
    steps: list[Step] = []
    files: list[str] = []
    for layer in layers or flat(image, reader):
        if layer.members is None:
            steps.append(Step(layer.created_by, None))
            continue
        files.append(f"layer-{len(files)}.tar" if layers else _LAYER)
        steps.append(Step(layer.created_by, _stream_layer(sink, layer, files[-1], time)))
    config = image_config(image, steps)
    file_name = f"{hex_of(digest_of(config))}.json"
    tags = [tag_of(name)] if name else None
    manifest = canonical_json([{"Config": file_name, "Layers": files, "RepoTags": tags}])
    sink.write(small_file(file_name, config, time) + small_file("manifest.json", manifest, time) + END)
    return digest_of(config)


def _stream_layer(sink: Sink, layer: Layer, name: str, time: int) -> Digest:
    size = layer.size()
    sink.write(member_header(name.encode(), Entry(FILE, "", 0o644, 0, 0, time, size, ""), None))
    written = layer.write(sink, Packing("none"))
    if written.size != size:
        raise changed("", f"its archive has {written.size} bytes instead of {size}")
    return written.plain_digest
