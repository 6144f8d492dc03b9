"""Trees into a repository: only content that it lacks goes over, in new packs; the rest is named where it is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.model.digest import hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, EMPTY, FILE, Entry, encode_directory
from boxwright.ports import LayerReader
from boxwright.repositories.binary.blobs import put_missing, upload
from boxwright.repositories.binary.catalog import Catalog
from boxwright.repositories.binary.packs import (
    CONTENT,
    LARGE,
    LIST,
    TREE,
    Contents,
    Item,
    NewPack,
    PackWriter,
    chunk_list,
    chunks,
    ranges_for,
    read_index,
    read_range,
    remove_files,
)
from boxwright.repositories.binary.place import Place, at_once
from boxwright.repositories.binary.records import ImageEntry, Pack, TreeEntry, blob_name

MOST_PACKS = 64
"""A tree is kept in so many packs; of more the smallest are packed anew."""
WORTH = 0.25
"""A pack of which less than this part is needed is not used."""
LOOKED_AT = 8
"""The trees of so many earlier records are looked at for content."""


class Content(NamedTuple):
    """Something that a tree needs: a directory object, or a file with its path and size."""

    kind: str
    digest: str
    size: int
    path: str = ""


class Sent(NamedTuple):
    """What was done: the packs that hold the tree, and how many bytes went over."""

    packs: list[Pack]
    sent: int


def needed(reader: LayerReader, snapshot: Snapshot) -> Iterator[Content]:
    """Everything that a tree consists of, each thing once."""
    top = hex_of(snapshot.manifest.full)
    root = reader.root(snapshot.manifest)
    yield Content(TREE, top, 0)
    seen = {top, EMPTY.full}
    pending: list[tuple[str, Entry]] = [("", root)]
    while pending:
        prefix, directory = pending.pop()
        if directory.full not in seen:
            seen.add(directory.full)
            yield Content(TREE, directory.full, 0)
        for name, entry in reader.entries(directory.full).items():
            if entry.kind == DIRECTORY:
                pending.append((f"{prefix}{name}/", entry))
            elif entry.kind == FILE and entry.size and entry.data not in seen:
                seen.add(entry.data)
                yield Content(CONTENT if entry.size <= LARGE else LIST, entry.data, entry.size, f"{prefix}{name}")


def send_tree(catalog: Catalog, place: Place, reader: LayerReader, snapshot: Snapshot, name: str, scratch: str) -> Sent:
    """Put what a repository lacks of a tree. `name` says which earlier trees are likely to hold most of it."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="packs-") as directory:
        return _Sending(catalog, place, reader, snapshot, directory).send(name)


class _Sending:
    def __init__(self, catalog: Catalog, place: Place, reader: LayerReader, snapshot: Snapshot, directory: str) -> None:
        self._catalog = catalog
        self._place = place
        self._reader = reader
        self._snapshot = snapshot
        self._writer = PackWriter(directory)
        self._used: dict[str, Pack] = {}
        self._written: set[tuple[str, bytes]] = set()

    def send(self, name: str) -> Sent:
        wanted = list(needed(self._reader, self._snapshot))
        packs = self._there(name)
        lists = self._lists(self._contents(packs), wanted)
        contents = self._worthy(packs, wanted, lists)
        for content in wanted:
            self._take(contents, content, lists)
        self._writer.finish()
        new = self._writer.done
        sent = self._put(new)
        return Sent([*self._used.values(), *(it.pack for it in new)], sent)

    def _put(self, packs: Sequence[NewPack]) -> int:
        uploads = [upload(it.pack.blob, path=it.path) for it in packs]
        uploads += [upload(it.pack.index, it.listing) for it in packs]
        try:
            return put_missing(self._place, uploads)
        finally:
            remove_files(packs)

    # What is there -------------------------------------------------------------------------------------------------

    def _there(self, name: str) -> list[Pack]:
        """The packs of earlier trees: those of the same name first, then the newest, as far as they are still there."""
        entries = [it for it in self._catalog.everything() if isinstance(it, ImageEntry | TreeEntry) and it.packs]
        stem = name.partition(":")[0]
        entries.sort(key=lambda it: (it.name.partition(":")[0] == stem, it.time), reverse=True)
        packs = {pack.blob.digest: pack for entry in entries[:LOOKED_AT] for pack in entry.packs}
        there = self._place.present([blob_name(digest) for digest in packs]) if packs else set()
        return [pack for digest, pack in packs.items() if blob_name(digest) in there]

    def _contents(self, packs: Sequence[Pack]) -> Contents:
        def index(pack: Pack) -> tuple[Pack, list[Item]] | None:
            with suppress(FetchError):
                return pack, read_index(self._catalog.source, pack, self._catalog.cache)
            return None

        return Contents([it for it in at_once(index, packs) if it is not None])

    def _worthy(self, packs: Sequence[Pack], wanted: Collection[Content], lists: Mapping[str, list[str]]) -> Contents:
        """The contents of those packs of which enough is needed: few packs, little in them that nobody wants."""
        contents = self._contents(packs)
        names = [(content.kind, content.digest) for content in wanted]
        names += [(CONTENT, digest) for digests in lists.values() for digest in digests]
        live: dict[str, int] = {}
        for kind, digest in dict.fromkeys(names):
            found = contents.get(kind, digest)
            if found is not None:
                live[found.pack.blob.digest] = live.get(found.pack.blob.digest, 0) + found.item.size
        chosen = sorted(live, key=lambda digest: live[digest], reverse=True)[:MOST_PACKS]
        worthy = {digest for digest in chosen if live[digest] >= WORTH * contents.sizes[digest]}
        return self._contents([pack for pack in packs if pack.blob.digest in worthy])

    def _lists(self, contents: Contents, wanted: Collection[Content]) -> Mapping[str, list[str]]:
        """The chunks of the large files: as they are listed there, else as they are cut here."""
        large = [content for content in wanted if content.kind == LIST]
        found = [it for content in large if (it := contents.get(LIST, content.digest)) is not None]
        lists: dict[str, list[str]] = {}

        def note(item: Item, data: bytes) -> None:
            lists[item.digest.hex()] = chunk_list(data)

        for part in ranges_for(found):
            read_range(self._catalog.source, part, note)
        if contents.sizes:  # in an empty repository there is nothing to find
            for content in large:
                if content.digest not in lists:
                    cut = chunks(self._physical(content))
                    lists[content.digest] = [hashlib.sha256(data).hexdigest() for data in cut]
        return lists

    # What goes over ------------------------------------------------------------------------------------------------

    def _take(self, contents: Contents, content: Content, lists: Mapping[str, list[str]]) -> None:
        """Name a content where it is, or pack it."""
        found = contents.get(content.kind, content.digest)
        parts = [contents.get(CONTENT, digest) for digest in lists.get(content.digest, ())]
        if found is not None and None not in parts and (content.kind != LIST or content.digest in lists):
            for it in (found, *parts):
                if it is not None:
                    self._used[it.pack.blob.digest] = it.pack
            return
        if content.kind == TREE:
            self._add(TREE, content.digest, self._object(content.digest))
        elif content.kind == CONTENT:
            with open(self._physical(content), "rb") as file:
                self._add(CONTENT, content.digest, file.read())
        else:
            self._cut(contents, content)

    def _cut(self, contents: Contents, content: Content) -> None:
        digests: list[bytes] = []
        for data in chunks(self._physical(content)):
            digest = hashlib.sha256(data)
            digests.append(digest.digest())
            found = contents.get(CONTENT, digest.hexdigest())
            if found is not None:
                self._used[found.pack.blob.digest] = found.pack
            else:
                self._add(CONTENT, digest.hexdigest(), data)
        self._add(LIST, content.digest, b"".join(digests))

    def _add(self, kind: str, digest: str, data: bytes) -> None:
        name = (kind, bytes.fromhex(digest))
        if name in self._written:
            return
        if kind != LIST and hashlib.sha256(data).digest() != name[1]:
            raise FetchError(
                "store.damaged", f"a file of the store has other bytes than {digest[:12]}", hint="run 'boxwright fsck'"
            )
        self._written.add(name)
        self._writer.add(kind, name[1], data)

    def _object(self, full: str) -> bytes:
        """A directory object's bytes."""
        return encode_directory(self._reader.entries(full).values()).data

    def _physical(self, content: Content) -> str:
        path = self._reader.physical(self._snapshot, content.path)
        if path is None:
            raise FetchError("store.gone", f"{content.path} is not in the store", hint="run 'boxwright fsck'")
        return path
