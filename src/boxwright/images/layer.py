"""The one layer of an image: its tree as a tar, packed."""

from __future__ import annotations

from dataclasses import dataclass

from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import Sink, Written, write_stream
from boxwright.images.tarstream import write_end, write_tree
from boxwright.model.image import Image
from boxwright.ports import TreeReader


@dataclass(frozen=True, slots=True)
class Packing:
    """How a stream is compressed; `level` None is the compression's own default."""

    compression: str
    level: int | None = None


def write_layer(sink: Sink, image: Image, reader: TreeReader, packing: Packing) -> Written:
    """Write the tree of `image` as a tar."""

    def produce(out: Pipeline) -> None:
        write_tree(out, reader, image.snapshot)
        write_end(out)

    return write_stream(sink, produce, packing.compression, packing.level)
