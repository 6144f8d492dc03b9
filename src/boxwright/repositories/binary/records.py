"""Records: the small signed objects that say what a repository has under an identity.

A record is JSON of one encoding (sorted keys, no white space). It says its own kind and identity, so that it can't
stand for another one; everything else it names by digest and size, so that who trusts the record can check the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from boxwright.errors import FetchError
from boxwright.model.digest import Digest, hex_of

FORMAT = 1
MOST = 1 << 20
"""Bytes of a record: one of an image names its packs, which are few."""
HEX_DIGITS = 64
_LOWER = frozenset("0123456789abcdef")


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the repository: its bytes' SHA-256 and number; `plain` is how many they are unpacked."""

    digest: str
    size: int
    plain: int = 0

    def __post_init__(self) -> None:
        _check_digest(self.digest)
        if self.size < 0 or self.plain < 0:
            raise ValueError("a size below zero")


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pack of content (packs.py) and the index of what is in it."""

    blob: Blob
    index: Blob


class _Base(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every record says. `time` in seconds since 1970, when it was published."""

    format: int = FORMAT
    name: str = ""
    time: int = 0


class PackageEntry(_Base, frozen=True, kw_only=True, tag="package"):
    """A package: under its definition key and under its content key.

    `archive` is the digest of its tar, `blob` that tar compressed with zstd, `metadata` its compressed JSON record.
    `sources` are what it was built from, by digest, those that were published.
    """

    definition: str
    key: str
    platform: str
    content: str
    archive: str
    blob: Blob
    metadata: Blob
    dependencies: dict[str, str] = {}
    toolchain: str = ""
    sources: dict[str, Blob] = {}


class TreeEntry(_Base, frozen=True, kw_only=True, tag="tree"):
    """A tree, under its content digest (`content`): toolchains. `full` is its manifest's other digest."""

    content: str
    full: str
    epoch: int
    size: int
    packs: list[Pack] = []
    note: str = ""


class ImageEntry(_Base, frozen=True, kw_only=True, tag="image"):
    """An image, under its identity. `config` is its configuration's canonical JSON."""

    identity: str
    config: str
    content: str
    full: str
    epoch: int
    size: int
    packs: list[Pack] = []
    manifest: str = ""


class SourcesEntry(_Base, frozen=True, kw_only=True, tag="sources"):
    """What an image or a toolchain was made of, as far as it was kept: files by digest.

    `of` is the image's identity or the tree's content, `parts` are further records of this kind that belong to it.
    Records never change, so each set of files has one: more may be known at a later push.
    """

    of: str
    sources: dict[str, Blob] = {}
    parts: list[str] = []

    @property
    def identity(self) -> str:
        """Of what it is made, and of which files."""
        text = json.dumps([self.of, sorted(self.sources), sorted(self.parts)])
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class TestEntry(_Base, frozen=True, kw_only=True, tag="test"):
    """A package's tests passed: under the key of the test."""

    key: str


class NameEntry(_Base, frozen=True, kw_only=True, tag="name"):
    """What a name stands for from `number` on: an image, and the definition that it was made of."""

    number: int
    image: str = ""
    images: dict[str, str] = {}
    spec: Blob | None = None


class RevokedEntry(_Base, frozen=True, kw_only=True, tag="revoked"):
    """A key that no longer counts."""

    key: str
    reason: str = ""


Entry = PackageEntry | TreeEntry | ImageEntry | SourcesEntry | TestEntry | NameEntry | RevokedEntry


def encode(entry: Entry) -> bytes:
    """A record's bytes."""
    return msgspec.json.encode(entry, order="sorted")


def decode(data: bytes, where: str) -> Entry:
    """A record of its bytes. Raises FetchError `repository.record`."""
    try:
        entry: Entry = msgspec.json.decode(data, type=Entry)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FetchError("repository.record", f"{where} is no record: {error}") from error
    if entry.format != FORMAT:
        hint = "a newer boxwright wrote it" if entry.format > FORMAT else ""
        raise FetchError("repository.format", f"{where} is a record of format {entry.format}", hint=hint)
    return entry


def identities(entry: Entry) -> tuple[tuple[str, str], ...]:
    """Under which kinds and identities a record may stand."""
    match entry:
        case PackageEntry():
            return (("definition", entry.definition), ("key", entry.key))
        case TreeEntry():
            return (("tree", entry.content),)
        case ImageEntry() | SourcesEntry():
            return ((str(entry.__struct_config__.tag), entry.identity),)
        case TestEntry():
            return (("test", entry.key),)
        case NameEntry():
            return (("name", f"{entry.name} {entry.number}"),)
        case RevokedEntry():
            return (("revoked", entry.key),)


def blobs_of(entry: Entry) -> Iterator[Blob]:
    """The content that a record names."""
    match entry:
        case PackageEntry():
            yield entry.blob
            yield entry.metadata
            yield from entry.sources.values()
        case TreeEntry() | ImageEntry():
            for pack in entry.packs:
                yield pack.blob
                yield pack.index
        case SourcesEntry():
            yield from entry.sources.values()
        case NameEntry():
            if entry.spec is not None:
                yield entry.spec


def blob_name(digest: str) -> str:
    """The object of some content."""
    value = _check_digest(digest)
    return f"blobs/{value[:2]}/{value}"


def record_name(kind: str, identity: str) -> str:
    """The object that says what there is under an identity."""
    value = _check_digest(identity)
    return f"records/{kind}/{value[:2]}/{value}"


def name_directory(name: str) -> str:
    """Where the records of a name lie: names have any letters, objects few."""
    value = hashlib.sha256(name.encode()).hexdigest()
    return f"names/{value[:2]}/{value}"


def name_record(name: str, number: int) -> str:
    """The object that says what a name stands for from `number` on."""
    return f"{name_directory(name)}/{number}"


def revoked_name(key: str) -> str:
    """The object that says that a key was revoked."""
    return f"revoked/{key}"


def signature_name(payload: bytes, signer: str) -> str:
    """The object that holds a signature of these bytes."""
    value = hashlib.sha256(payload).hexdigest()
    return f"signatures/{value[:2]}/{value}.{signer}"


def _check_digest(digest: str) -> str:
    """The hexadecimal part of a digest. Raises FetchError `repository.digest`."""
    value = hex_of(Digest(digest))
    if not digest.startswith("sha256:") or len(value) != HEX_DIGITS or not _LOWER.issuperset(value):
        raise FetchError("repository.digest", f"{digest!r} is no SHA-256")
    return value


def as_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises FetchError `repository.record`."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FetchError("repository.record", f"{where} is no JSON object: {error}") from error
