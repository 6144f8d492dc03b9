"""The layers of an image, each a tar, packed: one with its whole tree, or one for each instruction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from boxwright.images.members import Member, members
from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import Sink, Written, write_stream
from boxwright.images.tarstream import members_size, write_end, write_members
from boxwright.model.image import HistoryEntry, Image
from boxwright.ports import LayerReader, TreeReader


@dataclass(frozen=True, slots=True)
class Packing:
    """How a stream is compressed; `level` None is the compression's own default."""

    compression: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One entry of an image's history: `members` gives what is in its layer, and is None where it has none."""

    created_by: str
    members: Callable[[], Iterable[Member]] | None

    def size(self) -> int:
        """How long its archive will be, known without reading a file."""
        return members_size(self._found())

    def write(self, sink: Sink, packing: Packing) -> Written:
        """Write its archive."""

        def produce(out: Pipeline) -> None:
            write_members(out, self._found())
            write_end(out)

        return write_stream(sink, produce, packing.compression, packing.level)

    def _found(self) -> Iterable[Member]:
        return self.members() if self.members is not None else ()


def flat(image: Image, reader: TreeReader) -> tuple[Layer, ...]:
    """The one layer of a flat image."""
    return (Layer("boxwright", lambda: members(reader, image.snapshot)),)


def layers_of(history: Sequence[HistoryEntry], reader: LayerReader) -> tuple[Layer, ...]:
    """A layer for each instruction that changed the file system; the first is the base's whole tree."""
    from boxwright.images.difference import difference

    found: list[Layer] = []
    before = None
    for entry in history:
        changes = None
        if entry.snapshot is not None and (before is None or entry.snapshot.manifest.full != before.manifest.full):
            changes = difference(reader, before, entry.snapshot)
            before = entry.snapshot
        empty = not changes or (len(found) == 0 and len(changes) == 1)
        found.append(Layer(entry.created_by, _giving(changes or []) if not empty else None))
    if before is not None and all(layer.members is None for layer in found):
        # Docker takes no image without a layer.
        found[0] = Layer(found[0].created_by, _giving(difference(reader, None, before)))
    return tuple(found)


def _giving(found: list[Member]) -> Callable[[], Iterable[Member]]:
    return lambda: found


def write_layer(sink: Sink, image: Image, reader: TreeReader, packing: Packing) -> Written:
    """Write the tree of `image` as a tar."""
    return flat(image, reader)[0].write(sink, packing)
