"""What a package or an image was made of, as files in the store: for whoever publishes them beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.basesystems import made_of
from boxwright.app.locks import LockedPackage
from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.model.image import Image
from boxwright.model.package import PackageRecord
from boxwright.store.packages import Packages
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.inventory import Component


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
    own = own_sources(record, Packages(store))
    found = {file.digest: file for file in (*own, *base_sources(Digest(record.record["toolchain"]), store))}
    return tuple(found.values())


def own_sources(record: PackageRecord, packages: Packages) -> tuple[SourceFile, ...]:
    """The same without the toolchain's."""
    found: dict[str, SourceFile] = {}
    for source in record.record.get("sources", ()):
        for name, digest in source["files"]:
            found[digest] = _file(packages, digest, name)
    for name, content in record.record.get("dependencies", {}).items():
        package = name.removeprefix("debian/")
        if name.startswith("debian/") and (digest := packages.deb(package, content)):
            found[digest] = _file(packages, digest, f"{package.replace('=', '_')}.deb")
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
    known = {(item.name, item.version, item.architecture): item for item in _all_made(store)}
    for component in inventory_of(image, store).components:
        if component.kind == BUILT:
            record = _record(packages, component)
            for file in package_sources(record, store) if record is not None else ():
                found[file.digest] = file
        elif component.kind == DEBIAN and component.digest:
            name = f"{component.package}_{component.version}.deb"
            found[component.digest] = _file(packages, component.digest, name)
        elif component.kind == DEBIAN:
            for architecture in (component.architecture or image.config.architecture, "all"):
                item = known.get((component.package, component.version, architecture))
                if item is not None:
                    digest = f"sha256:{item.sha256}"
                    found[digest] = _file(packages, digest, os.path.basename(item.path))
    return tuple(found.values())


def _record(packages: Packages, component: Component) -> PackageRecord | None:
    """The record of a built package, None where only the image is still here."""
    try:
        return packages.find(component.identity or component.name)
    except BoxwrightError:
        return None


def made_bases(store: Store) -> list[Digest]:
    """The contents of the bases of which it is known what they were made of."""
    rows = store.index.all("SELECT name FROM bases WHERE name LIKE 'made:%' ORDER BY name")
    return [Digest(name.removeprefix("made:")) for (name,) in rows]


def _all_made(store: Store) -> Iterator[LockedPackage]:
    for content in made_bases(store):
        made, _ = made_of(store, content) or ((), ())
        yield from made


def _file(packages: Packages, digest: str, name: str) -> SourceFile:
    path = packages.blob(digest)
    return SourceFile(digest, name, os.stat(path).st_size if path else 0, path or "")
