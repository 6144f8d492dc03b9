"""Packs: many small contents in one object, so that a tree of ten thousand files is a few objects.

A pack is its items' zstd frames, one after the other; its index is an object of its own and says what lies where. An
item is a file's bytes, a directory object of a manifest, a chunk of a large file, or the list of such a file's chunks.
Each is named by the SHA-256 of what it holds (a list by that of the file), so that packs of one tree serve any other,
and part of a pack can be read by ranges and still be checked. Large files are cut by their content (FastCDC,
pyfastcdc), so that a change costs the chunks around it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from boxwright.errors import FetchError
from boxwright.repositories.binary.blobs import blob_of, blob_of_file, read_blob
from boxwright.repositories.binary.journal import keep
from boxwright.repositories.binary.packing import packed, unpacked
from boxwright.repositories.binary.place import Source
from boxwright.repositories.binary.records import Pack, blob_name

CONTENT, TREE, LIST = "c", "t", "l"
PACK_SIZE = 16 << 20
LARGE = 1 << 20
"""Files above this are cut into chunks."""
SMALLEST, AVERAGE, LARGEST = 64 << 10, 256 << 10, 1 << 20
MOST_PLAIN = 64 << 20
"""Bytes that an item may unpack to."""
GAP = 64 << 10
"""Ranges that lie this near to each other are read as one."""
RANGE = 4 << 20
LEVEL = 3


class Item(NamedTuple):
    """Something in a pack: `kind`, the digest's bytes, where its frame lies, and how long it is unpacked."""

    kind: str
    digest: bytes
    offset: int
    size: int
    plain: int


class Found(NamedTuple):
    """An item and the pack that holds it."""

    pack: Pack
    item: Item


Name = tuple[str, bytes]
"""An item's kind and digest."""


class NewPack(NamedTuple):
    """A pack that was made: the file that holds it (removed by who asked for it), and its index's bytes."""

    pack: Pack
    path: str
    listing: bytes


class PackWriter:
    """Makes packs below `directory`; each is given to `full` when it is."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._items: list[Item] = []
        self._file: tempfile._TemporaryFileWrapper[bytes] | None = None
        self._size = 0
        self.done: list[NewPack] = []

    def add(self, kind: str, digest: bytes, data: bytes) -> None:
        """Add an item."""
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(dir=self._directory, delete=False)  # noqa: SIM115 - see finish
        frame = packed(data, LEVEL)
        self._file.write(frame)
        self._items.append(Item(kind, digest, self._size, len(frame), len(data)))
        self._size += len(frame)
        if self._size >= PACK_SIZE:
            self.finish()

    def finish(self) -> None:
        """End the pack that was begun."""
        if self._file is None:
            return
        self._file.close()
        plain = msgspec.msgpack.encode(self._items)
        index = packed(plain)
        pack = Pack(blob_of_file(self._file.name), blob_of(index, len(plain)))
        self.done.append(NewPack(pack, self._file.name, index))
        self._file, self._items, self._size = None, [], 0


def chunks(path: str) -> Iterator[bytes]:
    """A large file's bytes, cut by content."""
    from pyfastcdc import FastCDC

    cutter = FastCDC(avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST)
    with open(path, "rb") as file:
        for chunk in cutter.cut_stream(file):
            yield bytes(chunk.data)


def read_index(source: Source, pack: Pack, cache: str) -> list[Item]:
    """What is in a pack. Raises FetchError where its index is not what the record says."""
    path = f"{cache}/{blob_name(pack.index.digest)}"
    data = b""
    with suppress(OSError), open(path, "rb") as file:
        data = file.read()
    if blob_of(data).digest != pack.index.digest:
        data = read_blob(source, pack.index)
        keep(path, data)
    return _items(unpacked(data, pack.index.plain, source.where), pack, source.where)


def _items(plain: bytes, pack: Pack, where: str) -> list[Item]:
    try:
        found = msgspec.msgpack.decode(plain, type=list[Item])
    except msgspec.MsgspecError as error:
        raise FetchError("repository.index", f"{where}: the index of a pack is damaged: {error}") from error
    for item in found:
        if item.offset < 0 or item.size < 0 or item.offset + item.size > pack.blob.size or item.plain > MOST_PLAIN:
            raise FetchError("repository.index", f"{where}: the index of a pack says what can't be")
    return found


class _Range(NamedTuple):
    pack: Pack
    start: int
    size: int
    items: list[Item]


def ranges_for(wanted: Iterable[Found]) -> list[_Range]:
    """What is read: items of a pack that lie near each other come together."""
    by_pack: dict[str, list[Found]] = {}
    for found in wanted:
        by_pack.setdefault(found.pack.blob.digest, []).append(found)
    result: list[_Range] = []
    for several in by_pack.values():
        current: _Range | None = None
        for pack, item in sorted(several, key=lambda found: found.item.offset):
            end = item.offset + item.size
            if current and item.offset - current.start - current.size <= GAP and end - current.start <= RANGE:
                current = current._replace(size=max(current.size, end - current.start))
                current.items.append(item)
                result[-1] = current
            else:
                current = _Range(pack, item.offset, item.size, [item])
                result.append(current)
    return result


def read_range(source: Source, wanted: _Range, use: Callable[[Item, bytes], None]) -> None:
    """Read a range and give each item's bytes, checked, to `use`."""
    name = blob_name(wanted.pack.blob.digest)
    pieces: list[bytes] = []
    size = 0
    for piece in source.read(name, wanted.start, wanted.size):
        pieces.append(piece)
        size += len(piece)
        if size >= wanted.size:
            break
    data = b"".join(pieces)
    if size < wanted.size:
        raise FetchError("repository.truncated", f"{source.where}: {name} ends too early")
    for item in wanted.items:
        start = item.offset - wanted.start
        plain = unpacked(data[start : start + item.size], item.plain, f"{source.where}: {name}")
        if item.kind != LIST and hashlib.sha256(plain).digest() != item.digest:
            raise FetchError("repository.altered", f"{source.where}: {name} holds other bytes than its index says")
        use(item, plain)


class Contents:
    """What packs hold, by name. Of what several hold the first one's is taken."""

    def __init__(self, indexes: Sequence[tuple[Pack, Sequence[Item]]]) -> None:
        self._found: dict[Name, Found] = {}
        self.sizes: Mapping[str, int] = {pack.blob.digest: sum(it.size for it in items) for pack, items in indexes}
        for pack, items in indexes:
            for item in items:
                self._found.setdefault((item.kind, item.digest), Found(pack, item))

    def get(self, kind: str, digest: str) -> Found | None:
        """Where something lies."""
        return self._found.get((kind, bytes.fromhex(digest)))

    def all_of(self, kind: str) -> list[Found]:
        """Everything of a kind."""
        return [found for (it, _), found in self._found.items() if it == kind]


def chunk_list(data: bytes) -> list[str]:
    """The digests of a large file's chunks. Raises FetchError `repository.index`."""
    if len(data) % 32:
        raise FetchError("repository.index", "a list of chunks is damaged")
    return [data[start : start + 32].hex() for start in range(0, len(data), 32)]


def remove_files(packs: Iterable[NewPack]) -> None:
    """Remove the files of packs that were put."""
    for pack in packs:
        if os.path.lexists(pack.path):
            os.unlink(pack.path)
