"""What is inside an image: its packages, and for each file whose it is and which step wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from boxwright.app.descriptions import about_package
from boxwright.app.owners import Installed, installed_packages, read_text
from boxwright.model.digest import Digest
from boxwright.model.image import Image, Snapshot
from boxwright.model.tree import DIRECTORY, FILE
from boxwright.store.packages import Packages
from boxwright.store.provenance import Maker, Provenance
from boxwright.store.store import Store

BUILT, DEBIAN, ALPINE = "built", "deb", "apk"
COMPOSITION = "composition"
"""Who made what no package has: accounts, links beside /usr, ld.so.cache."""

BRINGING = ("Base", "BuildPackage", "Compose")
"""The kinds of steps that lay packages down."""


class Component(NamedTuple):
    """A package in an image. `name` is whole; `identity` is what a built one's HASH is.

    `source` says where it is from, `patches` are names with their reasons, `reason` why it is there, `depends` what it
    needs by name; `files` and `size` are what the image has of it. `digest` is that of the distribution's file it was
    unpacked from, where that is known.
    """

    kind: str
    name: str
    package: str
    version: str
    architecture: str = ""
    identity: str = ""
    licence: str = ""
    source: str = ""
    patches: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    depends: tuple[str, ...] = ()
    files: int = 0
    size: int = 0
    digest: str = ""


class Ownership(NamedTuple):
    """Whose a file is: the package's whole name, `COMPOSITION`, or nothing; and the step that wrote it.

    `changed`: another step than the one that brought the package wrote what is there now.
    """

    package: str
    maker: Maker | None
    size: int
    changed: bool = False


class Inventory(NamedTuple):
    """`files` by path: everything in the image but directories. `brought` by: the step of each package."""

    components: tuple[Component, ...]
    files: Mapping[str, Ownership]
    brought: Mapping[str, Maker]

    def unowned(self) -> list[str]:
        """Files that no package has and no step made: those that came with a base."""
        return [
            path
            for path, owner in self.files.items()
            if not owner.package and (owner.maker is None or owner.maker.kind == "Base")
        ]

    def changed_by_steps(self) -> dict[Maker, list[str]]:
        """Files of packages that another step wrote later, by that step."""
        found: dict[Maker, list[str]] = {}
        for path, owner in self.files.items():
            if owner.changed and owner.maker is not None:
                found.setdefault(owner.maker, []).append(path)
        return found

    def by_steps(self) -> dict[Maker, list[str]]:
        """Files that no package has, by the step that made them."""
        found: dict[Maker, list[str]] = {}
        for path, owner in self.files.items():
            if not owner.package and owner.maker is not None and owner.maker.kind != "Base":
                found.setdefault(owner.maker, []).append(path)
        return found


def inventory_of(image: Image, store: Store) -> Inventory:
    """Look through an image."""
    snapshot = image.snapshot
    provenance = Provenance(store)
    makers = {layer: provenance.maker(layer) for layer in snapshot.layers}
    owners: dict[str, str] = {}
    components: dict[str, Component] = {}
    for installed in installed_packages(store, snapshot):
        component = _of_manager(installed, store, snapshot)
        components[component.name] = component
        owners.update(dict.fromkeys(installed.paths, component.name))
    described = provenance.described(image)
    for layer in reversed(snapshot.layers):
        record = provenance.composition(layer)
        if record is None:
            continue
        said = described.get(layer, {})
        items = [{**item, **said.get(item["name"], {})} for item in record["packages"]]
        named = [_composed(item, store, snapshot) for item in items]
        components.update({component.name: component for component in named})
        for number, paths in record["paths"].items():
            owners.update(dict.fromkeys(paths, named[int(number)].name if int(number) >= 0 else COMPOSITION))
    files = _files(store, snapshot, owners, makers)
    brought = _brought(files, [makers[layer] for layer in reversed(snapshot.layers)])
    files = {path: owner._replace(changed=_is_changed(owner, brought)) for path, owner in files.items()}
    return Inventory(_counted(components.values(), files), files, brought)


def _is_changed(owner: Ownership, brought: Mapping[str, Maker]) -> bool:
    """Whether another step than those that bring packages wrote a package's file."""
    maker = owner.maker
    return (
        maker is not None
        and maker.kind not in BRINGING
        and owner.package in brought
        and maker != brought[owner.package]
    )


def _brought(files: Mapping[str, Ownership], makers: Sequence[Maker | None]) -> dict[str, Maker]:
    """The step that brought each package: composition, else the one that most of its files are from, or an earlier."""
    order = {maker: -place for place, maker in reversed(list(enumerate(makers)))}
    counts: dict[str, dict[Maker, int]] = {}
    for owner in files.values():
        if owner.package not in ("", COMPOSITION) and owner.maker is not None:
            count = counts.setdefault(owner.package, {})
            count[owner.maker] = count.get(owner.maker, 0) + 1
    return {
        package: max(count, key=lambda maker: (maker.kind == "Compose", count[maker], order[maker]))
        for package, count in counts.items()
    }


def _files(
    store: Store, snapshot: Snapshot, owners: Mapping[str, str], makers: Mapping[str, Maker | None]
) -> dict[str, Ownership]:
    """Each file with its owner, and the step of the layer in which it lies."""
    start = len(store.home.layers) + 1
    found: dict[str, Ownership] = {}
    for file in store.walk(snapshot):
        if file.entry.kind == DIRECTORY:
            continue
        physical = file.physical or store.physical(snapshot, file.path) or ""
        maker = makers.get(physical[start:].partition("/")[0])
        package = owners.get(file.path, "")
        if package == COMPOSITION and (maker is None or maker.kind != "Compose"):
            package = ""
        found[file.path] = Ownership(package, maker, file.entry.size if file.entry.kind == FILE else 0)
    return found


def _counted(components: Iterable[Component], files: Mapping[str, Ownership]) -> tuple[Component, ...]:
    counts: dict[str, list[int]] = {}
    for owner in files.values():
        if owner.package:
            count = counts.setdefault(owner.package, [0, 0])
            count[0] += 1
            count[1] += owner.size
    return tuple(
        component._replace(files=counts.get(component.name, (0, 0))[0], size=counts.get(component.name, (0, 0))[1])
        for component in sorted(components)
    )


def _of_manager(installed: Installed, store: Store, snapshot: Snapshot) -> Component:
    family = "debian" if installed.kind == DEBIAN else "alpine"
    licence = installed.licence
    if installed.kind == DEBIAN:
        licence = debian_licence(read_text(store, snapshot, f"usr/share/doc/{installed.name}/copyright") or "")
    return Component(
        installed.kind,
        f"{family}/{installed.name}={installed.version}",
        installed.name,
        installed.version,
        installed.architecture,
        licence=licence,
        source=installed.source,
        depends=installed.depends,
    )


def _composed(item: Mapping[str, Any], store: Store, snapshot: Snapshot) -> Component:
    """A package as composition remembers it, with what its own record says."""
    name = item["name"]
    if not item["about"]:
        package, _, version = name.removeprefix("debian/").partition("=")
        licence = debian_licence(read_text(store, snapshot, f"usr/share/doc/{package}/copyright") or "")
        source = f"the distribution's package, {item['key'] or 'of the toolchain'}"
        return Component(
            DEBIAN,
            name,
            package,
            version,
            licence=licence,
            source=source,
            reason=item["reason"],
            digest=item.get("deb", ""),
        )
    about = item["about"]
    return Component(
        BUILT,
        name,
        about["package"],
        about["version"],
        about["architecture"],
        about["identity"],
        about["licence"],
        about["source"],
        tuple((patch, reason) for patch, reason in about["patches"]),
        item["reason"],
        tuple(about["depends"]),
    )


class Compositions:
    """Remembers what is composed, with what the packages' own records say: these may be collected, an image stays."""

    def __init__(self, store: Store) -> None:
        self._packages = Packages(store)
        self._provenance = Provenance(store)

    def keep_composition(self, layer: str, record: Mapping[str, Any]) -> None:
        """Remember which packages a layer was composed of."""
        packages = [
            {**item, "about": self._about(item["key"]), "deb": self._deb(item["name"], item["key"])}
            for item in record["packages"]
        ]
        self._provenance.keep_composition(layer, {**record, "packages": packages})

    def _deb(self, name: str, key: str) -> str:
        """The digest of the file that a distribution's package was unpacked from."""
        tree = self._packages.store.snapshot(Digest(key)) if name.startswith("debian/") and key else None
        return (self._packages.deb(name.removeprefix("debian/"), tree.manifest.content) or "") if tree else ""

    def _about(self, key: str) -> dict[str, Any]:
        found = self._packages.by_key(Digest(key))
        return about_package(found.record) if found is not None else {}


def debian_licence(copyright_text: str) -> str:
    """The short name of what most of a package is under, where its copyright file can be read by machines (DEP 5)."""
    if not copyright_text.startswith("Format:"):
        return ""
    for paragraph in copyright_text.split("\n\n"):
        if re.search(r"^Files:\s*\*\s*$", paragraph, re.MULTILINE):
            found = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
            return found[1].strip() if found else ""
    return ""
