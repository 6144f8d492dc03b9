"""The manifest of a tree: one object for each directory, linked by digest (a Merkle tree).

A directory object is the concatenation of its entries, sorted by the bytes of their names. An entry is nine fields,
each ended by a NUL: kind, name, mode (octal), uid, gid, mtime (seconds), size, data, xattrs. No field can hold a NUL.
Each directory has two digests: *full* over everything, and *content* over the same bytes without times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from boxwright.model.digest import Digest, digest_from_hex

DIRECTORY, FILE, SYMLINK, HARDLINK, CHAR, BLOCK, FIFO = "d", "f", "l", "h", "c", "b", "p"

IMPLIED = "user.boxwright.implied"
"""The attribute of a directory that an archive implies and doesn't list: ADD gives it no owner or mode of its own."""


class Entry(NamedTuple):
    """One path. `name` holds undecodable bytes as surrogates (PEP 383).

    `data` is, by `kind`: the hex SHA-256 of a file's bytes; a symbolic link's target; for a hard link the path (from
    the root, without a leading slash) of the first name of its group; ``major:minor`` of a device; for a directory
    ``FULLHEX:CONTENTHEX`` of its own object; empty for a FIFO.
    `size` is a file's bytes (a hard link's are those of its file), and a directory's the sum of those below it, each
    counted once. `xattrs` is ``name=HEX`` pairs, sorted and joined by commas.
    """

    kind: str
    name: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    data: str
    xattrs: str = ""

    def holding(self, directory: DirectoryObject) -> Entry:
        """A directory's entry with what is in it."""
        return self._replace(data=directory.link, size=directory.size)

    @property
    def full(self) -> str:
        """Of a directory: the hex of its object's full digest, under which the object is kept."""
        return self.data[:64]

    @property
    def content(self) -> str:
        """Of a directory: the hex of its object's content digest."""
        return self.data[65:]


class DirectoryObject(NamedTuple):
    """An encoded directory, its two digests in hexadecimal, and the bytes of all files in it and below it."""

    data: bytes
    full: str
    content: str
    size: int

    @property
    def link(self) -> str:
        """What the parent's entry holds as `data`."""
        return f"{self.full}:{self.content}"


class Manifest(NamedTuple):
    """The identity of a tree: the digests of an object that holds the root directory's own entry, named ``""``."""

    full: Digest
    content: Digest


def name_order(entry: Entry) -> bytes:
    """The sort key of entries in a directory."""
    return entry.name.encode("utf-8", "surrogateescape")


def encode_directory(entries: Iterable[Entry]) -> DirectoryObject:
    """The object of a directory that holds `entries`, in any order."""
    full: list[str] = []
    content: list[str] = []
    total = 0
    for kind, name, mode, uid, gid, mtime, size, data, xattrs in sorted(entries, key=name_order):
        if kind != HARDLINK:
            total += size
        head = f"{kind}\0{name}\0{mode:o}\0{uid}\0{gid}\0"
        full.append(f"{head}{mtime}\0{size}\0{data}\0{xattrs}\0")
        content.append(f"{head}\0{size}\0{data[65:] if kind == DIRECTORY else data}\0{xattrs}\0")
    encoded = "".join(full).encode("utf-8", "surrogateescape")
    content_encoded = "".join(content).encode("utf-8", "surrogateescape")
    digests = hashlib.sha256(encoded).hexdigest(), hashlib.sha256(content_encoded).hexdigest()
    return DirectoryObject(encoded, *digests, total)


def decode_directory(data: bytes) -> list[Entry]:
    """The entries of an encoded directory, sorted. Raises ValueError when `data` is not such an object."""
    fields = data.decode("utf-8", "surrogateescape").split("\0")
    if len(fields) % 9 != 1 or fields[-1]:
        raise ValueError("not a directory object")
    return [
        Entry(
            fields[i],
            fields[i + 1],
            int(fields[i + 2], 8),
            int(fields[i + 3]),
            int(fields[i + 4]),
            int(fields[i + 5]),
            int(fields[i + 6]),
            fields[i + 7],
            fields[i + 8],
        )
        for i in range(0, len(fields) - 1, 9)
    ]


def encode_root(root: Entry) -> DirectoryObject:
    """The topmost object of a tree, which holds the root directory's own entry."""
    return encode_directory([root])


def manifest_of(top: DirectoryObject) -> Manifest:
    """The identity of the tree whose topmost object is `top`."""
    return Manifest(digest_from_hex(top.full), digest_from_hex(top.content))


def directory_entry(name: str, mode: int, mtime: int, link: str, *, owner: tuple[int, int] = (0, 0)) -> Entry:
    """A plain directory's entry."""
    return Entry(DIRECTORY, name, mode, owner[0], owner[1], mtime, 0, link)


EMPTY = encode_directory(())


def encode_xattrs(pairs: Sequence[tuple[str, bytes]]) -> str:
    """Extended attributes as an entry holds them."""
    return ",".join(f"{name}={value.hex()}" for name, value in sorted(pairs))


def decode_xattrs(text: str) -> list[tuple[str, bytes]]:
    """The extended attributes of an entry, sorted by name."""
    if not text:
        return []
    return [(name, bytes.fromhex(value)) for name, _, value in (item.rpartition("=") for item in text.split(","))]
