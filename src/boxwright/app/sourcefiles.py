"""What a package or an image was made of, as files in the store: for whoever publishes them beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from boxwright.app.basesystems import made_of
from boxwright.model.digest import Digest
from boxwright.model.image import Image
from boxwright.model.package import PackageRecord
from boxwright.store.packages import Packages
from boxwright.store.store import Store


class SourceFile(NamedTuple):
    """A file by content: `digest` is ``sha256:HEX``, or ``git:COMMIT`` of a repository's tar.

    `path` and `size` (bytes) are those of the file in the store; empty and 0 where it was never kept, or is gone.
    """

    digest: str
    name: str
    size: int
    path: str


def package_sources(record: PackageRecord, store: Store) -> tuple[SourceFile, ...]:
    """Sources, patches and files of a package, packages of the distribution it was built with, and its toolchain's."""
    packages = Packages(store)
    found: dict[str, SourceFile] = {}
    for source in record.record["sources"]:
        for name, digest in source["files"]:
            found[digest] = _file(packages, digest, name)
    for name in record.record["dependencies"]:
        if name.startswith("debian/"):
            digest = packages.pin(f"debian-package {name.removeprefix('debian/')}")
            if digest:
                found[digest] = _file(packages, digest, name.removeprefix("debian/").replace("=", "_") + ".deb")
    for file in base_sources(Digest(record.record["toolchain"]), store):
        found[file.digest] = file
    return tuple(found.values())


def base_sources(content: Digest, store: Store) -> tuple[SourceFile, ...]:
    """The packages that a base with this content was made of."""
    made, _ = made_of(store, content) or ((), ())
    packages = Packages(store)
    return tuple(_file(packages, f"sha256:{item.sha256}", os.path.basename(item.path)) for item in made)


def image_sources(image: Image, store: Store) -> tuple[SourceFile, ...]:
    """Those of every package in an image: of those that were built here, and of the distribution's as far as known."""
    from boxwright.app.inventory import BUILT, DEBIAN, inventory_of

    packages = Packages(store)
    found: dict[str, SourceFile] = {}
    distribution = {(item[0], item[1]): item for item in _all_made(store)}
    for component in inventory_of(image, store).components:
        if component.kind == BUILT:
            for file in package_sources(packages.find(component.identity or component.name), store):
                found[file.digest] = file
        elif component.kind == DEBIAN:
            name, version = component.package, component.version
            known = distribution.get((name, version))
            digest = f"sha256:{known[2]}" if known else packages.pin(f"debian-package {name}={version}")
            if digest:
                called = os.path.basename(known[3]) if known else f"{name}_{version}.deb"
                found[digest] = _file(packages, digest, called)
    return tuple(found.values())


def _all_made(store: Store) -> Iterator[tuple[str, str, str, str]]:
    for (name,) in store.index.all("SELECT name FROM bases WHERE name LIKE 'made:%'"):
        made, _ = made_of(store, Digest(name.removeprefix("made:"))) or ((), ())
        for item in made:
            yield item.name, item.version, item.sha256, item.path


def _file(packages: Packages, digest: str, name: str) -> SourceFile:
    path = packages.blob(digest)
    return SourceFile(digest, name, os.stat(path).st_size if path else 0, path or "")
