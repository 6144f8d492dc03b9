"""What was built here, put into repositories: packages with their sources, tests that passed."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from boxwright.app.repositories import Opened, signing_key
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.package import PackageRecord
from boxwright.model.step import BuildPackage, TestPackage
from boxwright.repositories.binary.packages import Published
from boxwright.solver.keys import Keys
from boxwright.store.packages import Packages


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
    return Published(record.record, archive, _plain_size(archive), definitions, _sources(record, packages))


def _sources(record: PackageRecord, packages: Packages) -> Mapping[str, str]:
    contents = [content for source in record.record.get("sources", ()) for _, content in source["files"]]
    return {content: path for content in contents if (path := packages.blob(content)) is not None}


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


def merged(parts: Sequence[ToPublish]) -> ToPublish:
    """All of several."""
    return ToPublish(
        tuple(it for part in parts for it in part.packages), tuple(it for part in parts for it in part.tests)
    )
