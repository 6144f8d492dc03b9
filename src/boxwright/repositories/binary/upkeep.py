"""What whoever runs a repository does with it: verify, collect what nobody needs, count.

A collection may run beside pushes. It removes records first, so that no record ever names what is gone, and then only
content that was put longer ago than any push lasts, looking at the records once more before it does; a push looks at
its end whether its content is still there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from boxwright.errors import FetchError
from boxwright.repositories.binary.catalog import ROOT, Catalog
from boxwright.repositories.binary.keys import SIGNATURE_SIZE, PrivateKey
from boxwright.repositories.binary.packing import unpacked
from boxwright.repositories.binary.packs import Item
from boxwright.repositories.binary.place import Listed, MissingError, Place, Upload, at_once, whole
from boxwright.repositories.binary.records import (
    MOST,
    Entry,
    ImageEntry,
    NameEntry,
    Pack,
    PackageEntry,
    RevokedEntry,
    SourcesEntry,
    TestEntry,
    TreeEntry,
    blob_name,
    blobs_of,
    decode,
    identities,
    name_record,
    record_name,
    revoked_name,
    signature_name,
)

RECORDS = ("records/", "names/", "revoked/")
HOLDING = 512
"""Records that are removed with one call."""


class Record(NamedTuple):
    """A record as it lies there."""

    name: str
    payload: bytes
    entry: Entry


class Stats(NamedTuple):
    """What a repository holds: numbers of records by kind, objects and bytes of content, and bytes nobody names."""

    records: dict[str, int]
    objects: int
    size: int
    unneeded: int
    saved: int


class Verified(NamedTuple):
    """What is wrong, in words; and how much was looked at."""

    findings: list[str]
    objects: int
    size: int


def read_records(place: Place, findings: list[str] | None = None) -> list[Record]:
    """Every record; those that are none are findings."""
    names = [item.name for prefix in RECORDS for item in place.names(prefix)]

    def read(name: str) -> Record | str | None:
        try:
            payload = whole(place, name, MOST)
            return Record(name, payload, decode(payload, name))
        except MissingError:
            return None
        except FetchError as error:
            return error.message

    found = at_once(read, names)
    if findings is not None:
        findings += [it for it in found if isinstance(it, str)]
    return [it for it in found if isinstance(it, Record)]


# Verification ---------------------------------------------------------------------------------------------------------


def verify(catalog: Catalog, place: Place, *, deep: bool) -> Verified:
    """Look at every record, its signatures and what it names; with `deep` at every byte of content too."""
    findings: list[str] = []
    if not catalog.open():
        return Verified([f"{place.where} holds no repository ({ROOT} is missing)"], 0, 0)
    records = read_records(place, findings)
    blobs = {item.name: item for item in place.names("blobs/")}
    signatures = {item.name for item in place.names("signatures/")}
    for record in records:
        findings += _placed(record)
        findings += _signed(catalog, place, record, signatures)
        for blob in blobs_of(record.entry):
            there = blobs.get(blob_name(blob.digest))
            if there is None:
                findings.append(f"{record.name}: its content {blob.digest[7:19]} is missing")
            elif there.size != blob.size:
                findings.append(f"{there.name} has {there.size} bytes, not {blob.size}")
    findings += _numbered(records)
    findings += _complete(place, records, blobs)
    if deep:
        findings += [it for it in at_once(lambda item: _content(place, item), list(blobs.values())) if it]
    return Verified(sorted(set(findings)), len(records) + len(blobs), sum(item.size for item in blobs.values()))


def _placed(record: Record) -> list[str]:
    """Whether a record stands where it may."""
    match record.entry:
        case NameEntry() as entry:
            allowed = [name_record(entry.name, entry.number)]
        case RevokedEntry() as entry:
            allowed = [revoked_name(entry.key)]
        case _:
            allowed = [record_name(kind, identity) for kind, identity in identities(record.entry)]
    return [] if record.name in allowed else [f"{record.name} is the record of something else"]


def _signed(catalog: Catalog, place: Place, record: Record, signatures: set[str]) -> list[str]:
    for key in catalog.trust.keys:
        name = signature_name(record.payload, key.id)
        if name in signatures:
            with suppress(FetchError):
                if key.verifies(whole(place, name, SIGNATURE_SIZE), record.payload):
                    return []
            return [f"{name} is no signature of {record.name}"]
    return [f"{record.name} is signed by no key that counts"]


def _numbered(records: Sequence[Record]) -> list[str]:
    numbers: dict[str, set[int]] = {}
    for record in records:
        if isinstance(record.entry, NameEntry):
            numbers.setdefault(record.entry.name, set()).add(record.entry.number)
    return [
        f"the name {name} has gaps in its numbers" for name, it in numbers.items() if it != {*range(1, len(it) + 1)}
    ]


def _complete(place: Place, records: Sequence[Record], blobs: dict[str, Listed]) -> list[str]:
    """Whether the packs of each tree hold its topmost directory, and the chunks of its large files."""
    packs = {pack.index.digest: pack for it in records for pack in _packs(it.entry)}
    items: dict[str, list[Item]] = {}
    findings: list[str] = []
    for digest, pack in packs.items():
        if blob_name(digest) in blobs:
            try:
                data = unpacked(whole(place, blob_name(digest), pack.index.size), pack.index.plain, digest)
                items[digest] = msgspec.msgpack.decode(data, type=list[Item])
            except (FetchError, msgspec.MsgspecError):
                findings.append(f"{blob_name(digest)} is no index of a pack")
    for record in records:
        if isinstance(record.entry, ImageEntry | TreeEntry):
            held = {it.digest.hex() for pack in record.entry.packs for it in items.get(pack.index.digest, ())}
            if record.entry.full.removeprefix("sha256:") not in held:
                findings.append(f"{record.name}: its packs don't hold its tree")
    return findings


def _packs(entry: Entry) -> Sequence[Pack]:
    return entry.packs if isinstance(entry, ImageEntry | TreeEntry) else ()


def _content(place: Place, item: Listed) -> str:
    digest = hashlib.sha256()
    try:
        for piece in place.read(item.name):
            digest.update(piece)
    except FetchError as error:
        return error.message
    return "" if item.name.endswith(digest.hexdigest()) else f"{item.name} has other bytes than its name says"


# Collection -----------------------------------------------------------------------------------------------------------


class Collected(NamedTuple):
    """What went: records, and objects of content with their bytes."""

    records: int
    objects: int
    size: int


def collect(place: Place, *, now: int, oldest: int, grace: int, dry_run: bool) -> Collected:
    """Remove records published before `oldest` (seconds since 1970) that nothing newer needs, then unneeded content.

    Content put within the last `grace` seconds stays: a push may be about to name it. Names stay, with the images that
    they stand for now.
    """
    records = read_records(place)
    gone = [record for record in records if record.name in _outdated(records, oldest)]
    if not dry_run:
        for start in range(0, len(gone), HOLDING):
            place.delete([record.name for record in gone[start : start + HOLDING]])
    kept = [record for record in records if record not in gone] if dry_run else read_records(place)
    unneeded = [item for item in _unneeded(place, kept) if item.time < now - grace]
    if not dry_run and unneeded:
        again = {item.name for item in _unneeded(place, read_records(place))}
        unneeded = [item for item in unneeded if item.name in again]
        place.delete([item.name for item in unneeded])
        place.sweep(now - grace)
    return Collected(len(gone), len(unneeded), sum(item.size for item in unneeded))


def _outdated(records: Sequence[Record], oldest: int) -> set[str]:
    """The names of the records that nothing needs and that are old."""
    latest: dict[str, NameEntry] = {}
    for record in records:
        entry = record.entry
        if isinstance(entry, NameEntry) and entry.number > getattr(latest.get(entry.name), "number", 0):
            latest[entry.name] = entry
    named = {entry.image for entry in latest.values()}
    needed: set[str] = set()
    packages = [record.entry for record in records if isinstance(record.entry, PackageEntry)]
    pending = [entry for entry in packages if entry.time >= oldest]
    by_content: dict[str, list[PackageEntry]] = {}
    for entry in packages:
        by_content.setdefault(entry.content, []).append(entry)
    while pending:
        entry = pending.pop()
        for content in (*entry.dependencies.values(), entry.toolchain):
            if content not in needed:
                needed.add(content)
                pending += by_content.get(content, [])
    gone = {record.name for record in records if _is_outdated(record.entry, oldest, named, needed)}
    return gone - _sources_of_kept([record for record in records if record.name not in gone], records)


def _sources_of_kept(kept: Sequence[Record], records: Sequence[Record]) -> set[str]:
    """The names of the records that say what was made of which files, of what stays."""
    made: set[str] = set()
    for record in kept:
        match record.entry:
            case PackageEntry() as entry:
                made |= {entry.toolchain}
            case TreeEntry() as entry:
                made |= {entry.content}
            case ImageEntry() as entry:
                made |= {entry.identity}
            case SourcesEntry() as entry:
                made |= {entry.identity}
    all_of_them = [(record.name, record.entry) for record in records if isinstance(record.entry, SourcesEntry)]
    whole = [(name, entry) for name, entry in all_of_them if entry.of in made or entry.identity in made]
    parts = {identity for _, entry in whole for identity in entry.parts}
    return {name for name, _ in whole} | {name for name, entry in all_of_them if entry.identity in parts}


def _is_outdated(entry: Entry, oldest: int, named: set[str], needed: set[str]) -> bool:
    if entry.time >= oldest:
        return False
    match entry:
        case PackageEntry() | TreeEntry():
            return entry.content not in needed
        case ImageEntry():
            return entry.identity not in named
        case SourcesEntry() | TestEntry():
            return True
        case _:
            return False


def _unneeded(place: Place, records: Iterable[Record]) -> list[Listed]:
    """Content that no record names, and signatures of records that are gone."""
    needed: set[str] = set()
    payloads: set[str] = set()
    for record in records:
        needed |= {blob_name(blob.digest) for blob in blobs_of(record.entry)}
        payloads.add(hashlib.sha256(record.payload).hexdigest())
    found = [item for item in place.names("blobs/") if item.name not in needed]
    found += [
        item for item in place.names("signatures/") if item.name.rpartition("/")[2].partition(".")[0] not in payloads
    ]
    return found


def count(place: Place) -> Stats:
    """What is there."""
    records = read_records(place)
    kinds: dict[str, int] = {}
    named = 0
    for record in records:
        kind = type(record.entry).__struct_config__.tag
        kinds[str(kind)] = kinds.get(str(kind), 0) + 1
        named += sum(blob.size for blob in blobs_of(record.entry))
    blobs = list(place.names("blobs/"))
    size = sum(item.size for item in blobs)
    unneeded = sum(item.size for item in _unneeded(place, records))
    return Stats(kinds, len(blobs), size, unneeded, max(0, named - size))


# Keys -----------------------------------------------------------------------------------------------------------------


def sign_all(catalog: Catalog, place: Place, key: PrivateKey) -> int:
    """Sign with a new key all that a key that counts has signed; returns how many records. No other byte changes."""
    catalog.open()
    signatures = {item.name for item in place.names("signatures/")}
    uploads = [
        Upload(signature_name(record.payload, key.public.id), key.sign(record.payload))
        for record in read_records(place)
        if not _signed(catalog, place, record, signatures)
        and signature_name(record.payload, key.public.id) not in signatures
    ]
    place.put(uploads)
    return len(uploads)
