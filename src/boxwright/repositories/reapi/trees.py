"""Input trees: manifests, laid over each other as an overlay lays layers, become the protocol's Directory messages."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from boxwright.files import hash_file
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, Manifest
from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.settings import EMPTY, Blob, RemoteError

READ_ONLY = "SubtreeReadOnly"
"""The property of a directory that buildbox knows, for it and all below."""


class Reader(Protocol):
    """The store, as far as an input tree reads it."""

    def entries(self, full: str) -> Mapping[str, Entry]:
        """The entries of a directory object, by name."""
        ...

    def root(self, manifest: Manifest) -> Entry:
        """The root directory's own entry."""
        ...

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        """Where the bytes of `path` lie."""
        ...


class Place(NamedTuple):
    """Where a file's bytes are: in a snapshot, or on the disk where there is none."""

    snapshot: Snapshot | None
    path: str


class Node(NamedTuple):
    """A directory: its message, the directories in it, and where the bytes of its files are."""

    blob: Blob
    data: bytes
    children: tuple[Node, ...]
    files: tuple[tuple[Blob, Place], ...]


class _Under(NamedTuple):
    """A directory of one snapshot that takes part in a merged one."""

    snapshot: Snapshot
    entry: Entry
    path: str


class InputTrees:
    """Makes input trees; what it made of a directory once is used again."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[tuple[str, str], Node] = {}

    def merged(self, snapshots: Sequence[Snapshot], own: Mapping[str, Node], *, read_only: bool = False) -> Node:
        """The tree of `snapshots`, the topmost first, with `own` directories in the root in place of what was there."""
        under = [_Under(snapshot, self._reader.root(snapshot.manifest), "") for snapshot in snapshots]
        return self._merge(under, own, {READ_ONLY: "true"} if read_only else {})

    def _merge(self, under: Sequence[_Under], own: Mapping[str, Node], properties: Mapping[str, str]) -> Node:
        if len(under) == 1 and not own:
            return self._single(under[0])
        named: dict[str, list[_Under]] = {}
        for one in under:
            for name, entry in self._reader.entries(one.entry.full).items():
                before = named.get(name)
                if before is None:
                    named[name] = [_Under(one.snapshot, entry, _below(one.path, name))]
                elif before[-1].entry.kind == DIRECTORY:  # what is below anything else is hidden
                    before.append(_Under(one.snapshot, entry, _below(one.path, name)))
        made = _Maker(properties)
        for name, node in own.items():
            made.directory(name, node)
        for name, places in named.items():
            if name in own:
                continue
            if places[0].entry.kind == DIRECTORY:
                directories = [place for place in places if place.entry.kind == DIRECTORY]
                made.directory(name, self._merge(directories, {}, {}))
            else:
                self._add(made, places[0])
        return made.node()

    def _single(self, one: _Under) -> Node:
        key = (one.snapshot.manifest.full, one.entry.full)
        known = self._known.get(key)
        if known is None:
            made = _Maker()
            for name, entry in self._reader.entries(one.entry.full).items():
                place = _Under(one.snapshot, entry, _below(one.path, name))
                if entry.kind == DIRECTORY:
                    made.directory(name, self._single(place))
                else:
                    self._add(made, place)
            known = self._known[key] = made.node()
        return known

    def _add(self, made: _Maker, place: _Under) -> None:
        entry = place.entry
        if entry.kind == FILE:
            blob = Blob(entry.data, entry.size)
            made.file(entry.name, blob, Place(place.snapshot, place.path), executable=bool(entry.mode & 0o111))
        elif entry.kind == HARDLINK:
            blob = Blob(self._content(place.snapshot, entry.data), entry.size)
            made.file(entry.name, blob, Place(place.snapshot, entry.data), executable=bool(entry.mode & 0o111))
        elif entry.kind == SYMLINK:
            made.link(entry.name, entry.data)

    def _content(self, snapshot: Snapshot, path: str) -> str:
        """The digest of the file that a hard link's group begins with."""
        entry = self._reader.root(snapshot.manifest)
        for name in path.split("/"):
            entry = self._reader.entries(entry.full)[name]
        return entry.data

    def source(self, place: Place) -> str:
        """The file that holds a blob's bytes."""
        if place.snapshot is None:
            return place.path
        path = self._reader.physical(place.snapshot, place.path)
        if path is None:
            raise RemoteError("remote.input", f"{place.path} is no longer in the store", gone=False)
        return path


class _Maker:
    """A Directory message in the making."""

    def __init__(self, properties: Mapping[str, str] = MappingProxyType({})) -> None:
        self._message = messages.Directory()
        for name, value in properties.items():
            self._message.node_properties.properties.add(name=name, value=value)
        self._files: dict[str, tuple[Blob, bool]] = {}
        self._links: dict[str, str] = {}
        self._children: dict[str, Node] = {}
        self._places: list[tuple[Blob, Place]] = []

    def file(self, name: str, blob: Blob, place: Place, *, executable: bool) -> None:
        self._files[name] = (blob, executable)
        if blob != EMPTY:
            self._places.append((blob, place))

    def link(self, name: str, target: str) -> None:
        self._links[name] = target

    def directory(self, name: str, node: Node) -> None:
        self._children[name] = node

    def node(self) -> Node:
        """Finish it: names in the order of their characters (remote_execution.proto, Directory)."""
        message = self._message
        try:
            for name, (blob, executable) in sorted(self._files.items()):
                item = message.files.add(name=name, is_executable=executable)
                item.digest.hash, item.digest.size_bytes = blob
            for name, node in sorted(self._children.items()):
                item = message.directories.add(name=name)
                item.digest.hash, item.digest.size_bytes = node.blob
            for name, target in sorted(self._links.items()):
                message.symlinks.add(name=name, target=target)
        except ValueError as error:
            text = "a file name that is no UTF-8 can't be sent"
            raise RemoteError("remote.input", text, gone=False) from error
        data = message.SerializeToString(deterministic=True)
        return Node(blob_of(data), data, tuple(self._children.values()), tuple(self._places))


def directory_node(path: str, more: Mapping[str, str], *, writable: bool = False) -> Node:
    """The tree of a directory on the disk. `more` are further files, by their path in it."""
    made = _Maker({READ_ONLY: "false"} if writable else {})
    inside: dict[str, dict[str, str]] = {}
    for place, source in more.items():
        first, _, rest = place.partition("/")
        if rest:
            inside.setdefault(first, {})[rest] = source
        else:
            made.file(first, Blob(hash_file(source), os.stat(source).st_size), Place(None, source), executable=False)
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            made.directory(entry.name, directory_node(entry.path, inside.get(entry.name, {})))
        else:
            status = entry.stat(follow_symlinks=False)
            executable = bool(stat.S_IMODE(status.st_mode) & 0o111)
            blob = Blob(hash_file(entry.path), status.st_size)
            made.file(entry.name, blob, Place(None, entry.path), executable=executable)
    return made.node()


def blob_of(data: bytes) -> Blob:
    """The digest of `data`."""
    return Blob(hashlib.sha256(data).hexdigest(), len(data))


def digest_message(blob: Blob) -> Any:  # noqa: ANN401 - a message
    """A blob's digest as a message."""
    return messages.Digest(hash=blob.hash, size_bytes=blob.size)


def walk(node: Node, known: set[Blob]) -> Iterator[Node]:
    """A directory and all below it, but those that are `known`; each is then."""
    if node.blob in known:
        return
    known.add(node.blob)
    yield node
    for child in node.children:
        yield from walk(child, known)


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
