"""What was built here, put into repositories: packages and images with what they were made of, tests that passed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from boxwright.app.acimanifest import kept_manifest
from boxwright.app.repositories import Opened, signing_key
from boxwright.app.sourcefiles import SourceFile, base_sources, image_sources, made_bases, own_sources
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Image
from boxwright.model.package import PackageRecord
from boxwright.model.step import Base, BuildPackage, TestPackage
from boxwright.repositories.binary.blobs import packed_blob, put_missing, upload
from boxwright.repositories.binary.packages import Published
from boxwright.repositories.binary.records import ImageEntry, NameEntry, Pack, TreeEntry
from boxwright.repositories.binary.treepush import send_tree
from boxwright.solver.keys import Keys
from boxwright.store.images import config_text
from boxwright.store.packages import Packages
from boxwright.store.store import Store


class ToPublish(NamedTuple):
    """Packages of a build and the tests of theirs that passed, by key with the package's name."""

    packages: tuple[Published, ...]
    tests: tuple[tuple[Digest, str], ...] = ()


def of_build(graph: Graph, keys: Keys, packages: Packages, foreign: Collection[int] = ()) -> ToPublish:
    """What a build has that can be published; `foreign` nodes came from a repository and stay where they are."""
    found: list[Published] = []
    tests: list[tuple[Digest, str]] = []
    for position, node in enumerate(graph.nodes):
        snapshot = keys.snapshot(position)
        if snapshot is None or position in foreign:
            continue
        if isinstance(node.step, TestPackage):
            tests.append((snapshot.key, node.stage))
        elif isinstance(node.step, BuildPackage):
            record = packages.by_key(snapshot.key)
            published = of_record(record, packages) if record is not None else None
            if published is not None:
                found.append(published)
    return ToPublish(tuple(found), tuple(tests))


def of_record(record: PackageRecord, packages: Packages) -> Published | None:
    """A package as it is published, with those of its sources that are here; None where its archive is gone."""
    archive = packages.archive(record.archive)
    if archive is None:
        return None
    definitions = packages.definitions(record.key) or (record.definition,)
    return Published(record.record, archive, _plain_size(archive), definitions, _here(own_sources(record, packages)))


def _here(files: Iterable[SourceFile]) -> dict[str, str]:
    """The paths of those files that are here, by digest."""
    return {file.digest: file.path for file in files if file.path}


def _plain_size(path: str) -> int:
    """The bytes of a compressed tar when unpacked."""
    import zstandard

    size = 0
    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        while data := reader.read(1 << 20):
            size += len(data)
    return size


def publish(to: Opened, what: ToPublish) -> list[str]:
    """Put it there; returns the names of packages of which another build was there already, and stays."""
    return to.packages.publish(to.place(), signing_key(to.configured), what.packages, what.tests, int(time.time()))


def publish_image(to: Opened, image: Image, names: Sequence[str], store: Store, spec: bytes = b"") -> int:
    """Put an image and let names stand for it; returns how many bytes went over. `spec` is what it was made of."""
    place, key, now = to.place(), signing_key(to.configured), int(time.time())
    to.catalog.initialise(place)
    sent = 0
    if not to.catalog.has(("image", image.identity)):
        tree = send_tree(to.catalog, place, store, image.snapshot, names[0] if names else "", store.scratch())
        sent = tree.sent
        to.catalog.publish(place, key, [_image_entry(image, tree.packs, names, store, now)])
    blob = None
    if spec:
        blob, data = packed_blob(spec)
        sent += put_missing(place, [upload(blob, data)])
    _publish_image_sources(to, image, store)
    for name in names:
        to.catalog.publish_name(place, key, name, NameEntry(number=0, time=now, image=image.identity, spec=blob))
    return sent


def _publish_image_sources(to: Opened, image: Image, store: Store) -> None:
    """Put what an image was made of, as far as it was kept. What a base was made of is put once for all its images."""
    files = image_sources(image, store)
    wanted = _here(files)
    digests = {file.digest for file in files}
    parts: list[str] = []
    for content in made_bases(store):
        base = base_sources(content, store)
        if base and digests.issuperset(file.digest for file in base):
            parts += publish_made(to, content, store)
            wanted = {digest: path for digest, path in wanted.items() if digest not in {file.digest for file in base}}
    key = signing_key(to.configured)
    to.packages.publish_sources(to.place(), key, image.identity, wanted, parts, int(time.time()))


def publish_made(to: Opened, content: Digest, store: Store) -> list[str]:
    """Put the packages that a base with this content was made of, as far as they were kept; returns their records."""
    files = _here(base_sources(content, store))
    if not files:
        return []
    return to.packages.publish_sources(to.place(), signing_key(to.configured), content, files, (), int(time.time()))


def _image_entry(image: Image, packs: list[Pack], names: Sequence[str], store: Store, now: int) -> ImageEntry:
    return ImageEntry(
        name=names[0] if names else "",
        time=now,
        identity=image.identity,
        config=config_text(image.config),
        content=image.snapshot.manifest.content,
        full=image.snapshot.manifest.full,
        epoch=image.created,
        size=image.size,
        packs=packs,
        manifest=kept_manifest(store, image),
    )


def publish_trees(to: Opened, graph: Graph, keys: Keys, store: Store) -> None:
    """Put the toolchains of a build, by content, so that a lock's pin is enough to have them."""
    place, key, now = to.place(), signing_key(to.configured), int(time.time())
    to.catalog.initialise(place)
    for position, node in enumerate(graph.nodes):
        snapshot = keys.snapshot(position)
        if not isinstance(node.step, Base) or node.step.source != "toolchain" or snapshot is None:
            continue
        content = snapshot.manifest.content
        publish_made(to, content, store)
        if to.catalog.has(("tree", content)):
            continue
        tree = send_tree(to.catalog, place, store, snapshot, node.step.name, store.scratch())
        entry = TreeEntry(
            name=node.step.name,
            time=now,
            content=content,
            full=snapshot.manifest.full,
            epoch=snapshot.epoch,
            size=store.root(snapshot.manifest).size,
            packs=tree.packs,
        )
        to.catalog.publish(place, key, [entry])
