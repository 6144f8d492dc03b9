"""Packages of a binary repository: found by their identities, fetched, published."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from boxwright.errors import FetchError
from boxwright.model.digest import Digest
from boxwright.repositories.binary.blobs import (
    blob_of_file,
    fetch_blob,
    packed_blob,
    put_missing,
    read_packed,
    upload,
)
from boxwright.repositories.binary.catalog import Catalog
from boxwright.repositories.binary.keys import PrivateKey
from boxwright.repositories.binary.place import Place, Upload
from boxwright.repositories.binary.records import Blob, PackageEntry, SourcesEntry, TestEntry, as_json
from boxwright.repositories.ports import Offer, Wanted

MOST_SOURCES = 2000
"""Files that one record names: a record is at most 1 MiB long."""


class Published(NamedTuple):
    """A package that is to be published: its record, its compressed archive, and its sources' files by digest.

    `plain` is the size of the tar, `definitions` all definition keys that turned out to be this package.
    """

    record: Mapping[str, Any]
    archive: str
    plain: int
    definitions: tuple[Digest, ...]
    sources: Mapping[str, str] = {}


class BinaryPackages:
    """The packages of one repository, as builds ask for them."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.name = catalog.name
        self._sources: Mapping[str, Blob] | None = None
        self._guard = threading.Lock()

    def find(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Offer]:
        """Those that are here, by their definition or, where that is known, by their content key."""
        identities = [("definition", str(it.definition)) for it in wanted]
        identities += [("key", str(it.key)) for it in wanted if it.key is not None]
        entries = self.catalog.lookup(identities)
        found: dict[Wanted, Offer] = {}
        for it in wanted:
            entry = entries.get(("definition", it.definition)) or entries.get(("key", str(it.key)))
            if isinstance(entry, PackageEntry):
                found[it] = _offer(it.definition, entry)
        return found

    def refusals(self) -> Sequence[str]:
        """Why records that were met don't count, since this was asked last."""
        found = tuple(self.catalog.refused)
        self.catalog.refused.clear()
        return found

    def tested(self, keys: Sequence[Digest]) -> set[Digest]:
        """Of the keys of tests those that passed where the packages come from."""
        return {Digest(it[1]) for it in self.catalog.lookup([("test", key) for key in keys])}

    def fetch(self, offer: Offer, target: str, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Write the package's compressed tar to `target`; returns its metadata."""
        entry: PackageEntry = offer.handle
        where = f"the metadata of {offer.name} at {self.name}"
        record = as_json(read_packed(self.catalog.source, entry.metadata), where)
        if (record.get("key"), record.get("archive"), record.get("content")) != (
            entry.key,
            entry.archive,
            entry.content,
        ):
            raise FetchError("repository.altered", f"{where} is that of another package")
        fetch_blob(self.catalog.source, entry.blob, target, cancelled)
        return record

    def fetch_source(self, content: str, target: str, cancelled: Callable[[], bool]) -> bool:
        """Write a source's file to `target`, where it was published with something."""
        blob = self._known_sources().get(content)
        if blob is None or (content.startswith("sha256:") and blob.digest != content):
            return False
        fetch_blob(self.catalog.source, blob, target, cancelled)
        return True

    def _known_sources(self) -> Mapping[str, Blob]:
        with self._guard:
            if self._sources is None:
                self._sources = {
                    name: blob
                    for entry in self.catalog.everything()
                    if isinstance(entry, PackageEntry | SourcesEntry)
                    for name, blob in entry.sources.items()
                }
            return self._sources

    def publish_sources(
        self, place: Place, key: PrivateKey, of: str, files: Mapping[str, str], parts: Sequence[str], time: int
    ) -> list[str]:
        """Put what an image or a tree was made of: files by digest. Returns the identities of the records, few.

        `parts` are identities of records that belong to it too. Nothing is put where there is nothing to say.
        """
        if not files and not parts:
            return []
        self.catalog.initialise(place)
        names = sorted(files)
        entries = [
            SourcesEntry(
                of=of,
                time=time,
                sources={name: blob_of_file(files[name]) for name in names[start : start + MOST_SOURCES]},
                parts=[] if start else sorted(parts),
            )
            for start in range(0, len(names) or 1, MOST_SOURCES)
        ]
        new = [entry for entry in entries if not self.catalog.has(("sources", entry.identity))]
        uploads = [upload(blob, path=files[name]) for entry in new for name, blob in entry.sources.items()]
        put_missing(place, uploads)
        self.catalog.publish(place, key, new)
        put_missing(place, uploads)  # what a collection took away meanwhile
        return [entry.identity for entry in entries]

    def publish(
        self,
        place: Place,
        key: PrivateKey,
        packages: Sequence[Published],
        tests: Sequence[tuple[Digest, str]],
        time: int,
    ) -> list[str]:
        """Put packages; returns the names of those of which another build was there, which stays.

        `tests` are the keys of tests that passed, with the packages' names.
        """
        self.catalog.initialise(place)
        uploads: list[Upload] = []
        entries: list[PackageEntry | TestEntry] = []
        for package in packages:
            entries += _entries(package, uploads, time)
        put_missing(place, uploads)
        entries += [TestEntry(key=test, name=name, time=time) for test, name in tests]
        kept = self.catalog.publish(place, key, entries)
        put_missing(place, uploads)  # what a collection took away meanwhile
        return [entry.name for entry in kept]

    def close(self) -> None:
        """Let go of connections."""
        self.catalog.source.close()


def _entries(package: Published, uploads: list[Upload], time: int) -> list[PackageEntry]:
    record = package.record
    archive = blob_of_file(package.archive, package.plain)
    metadata, data = packed_blob(msgspec.json.encode(record, order="sorted"))
    sources = {content: blob_of_file(path) for content, path in package.sources.items()}
    uploads += [upload(archive, path=package.archive), upload(metadata, data)]
    uploads += [upload(blob, path=package.sources[content]) for content, blob in sources.items()]
    return [
        PackageEntry(
            name=record["name"],
            time=time,
            definition=definition,
            key=record["key"],
            platform=record["platform"],
            content=record["content"],
            archive=record["archive"],
            blob=archive,
            metadata=metadata,
            dependencies=dict(record["dependencies"]),
            toolchain=record["toolchain"],
            sources=sources,
        )
        for definition in package.definitions
    ]


def _offer(definition: Digest, entry: PackageEntry) -> Offer:
    return Offer(
        definition,
        Digest(entry.key),
        entry.name,
        Digest(entry.content),
        Digest(entry.archive),
        entry.dependencies,
        entry.toolchain,
        entry.blob.plain,
        entry,
    )
