"""What is different between two images: packages, files, configuration, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from boxwright.app.inventory import Component, inventory_of
from boxwright.model.image import Image, Snapshot
from boxwright.model.tree import DIRECTORY, FILE, Entry
from boxwright.store.images import config_fields
from boxwright.store.store import Store


class FileChange(NamedTuple):
    """A path that is different: `kind` is added, removed or changed; `what` says in what; `size` is the difference."""

    path: str
    kind: str
    what: tuple[str, ...]
    size: int


class PackageChange(NamedTuple):
    """A package that is different; `before` and `after` are versions (with the HASH of a built one), empty for none."""

    name: str
    before: str
    after: str


class Comparison(NamedTuple):
    """Everything that is different."""

    packages: tuple[PackageChange, ...]
    files: tuple[FileChange, ...]
    configuration: tuple[tuple[str, Any, Any], ...]
    sizes: tuple[int, int]


def compare(before: Image, after: Image, store: Store) -> Comparison:
    """Compare two images. Times don't count."""
    roots = [store.root(image.snapshot.manifest) for image in (before, after)]
    files = tuple(_changes(store, roots[0], roots[1], ""))
    old, new = (config_fields(image.config) for image in (before, after))
    configuration = tuple((name, old[name], new[name]) for name in old if old[name] != new[name])
    packages: tuple[PackageChange, ...] = ()
    if files:
        packages = tuple(_packages(inventory_of(before, store).components, inventory_of(after, store).components))
    return Comparison(packages, files, configuration, (before.size, after.size))


def tree_changes(before: Snapshot, after: Snapshot, store: Store) -> tuple[FileChange, ...]:
    """What is different between the trees of two states. Times don't count."""
    return tuple(_changes(store, store.root(before.manifest), store.root(after.manifest), ""))


def _packages(before: tuple[Component, ...], after: tuple[Component, ...]) -> Iterator[PackageChange]:
    old, new = ({_stem(one): _version(one) for one in side} for side in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield PackageChange(name, old.get(name, ""), new.get(name, ""))


def _stem(component: Component) -> str:
    """The name without the version."""
    return component.name.partition("=")[0].removesuffix(f"-{component.version}")


def _version(component: Component) -> str:
    return f"{component.version} {component.identity[7:19]}".strip()


def _changes(store: Store, before: Entry, after: Entry, prefix: str) -> Iterator[FileChange]:
    if before.content == after.content:
        return
    old, new = store.entries(before.full), store.entries(after.full)
    for name in sorted(old.keys() | new.keys()):
        yield from _change(store, old.get(name), new.get(name), f"{prefix}{name}")


def _change(store: Store, before: Entry | None, after: Entry | None, path: str) -> Iterator[FileChange]:
    if before is not None and after is not None and before.kind == after.kind == DIRECTORY:
        what = _what(before, after)
        if what:
            yield FileChange(path, "changed", what, 0)
        yield from _changes(store, before, after, f"{path}/")
        return
    if before is not None and after is not None and before.kind == after.kind:
        what = _what(before, after)
        if what:
            yield FileChange(path, "changed", what, after.size - before.size if after.kind == FILE else 0)
        return
    for entry, kind, sign in ((before, "removed", -1), (after, "added", 1)):
        if entry is not None:
            yield from _whole(store, entry, path, kind, sign)


def _whole(store: Store, entry: Entry, path: str, kind: str, sign: int) -> Iterator[FileChange]:
    yield FileChange(path, kind, (), sign * entry.size if entry.kind == FILE else 0)
    if entry.kind == DIRECTORY:
        for name, below in store.entries(entry.full).items():
            yield from _whole(store, below, f"{path}/{name}", kind, sign)


def _what(before: Entry, after: Entry) -> tuple[str, ...]:
    """In what two entries of one kind differ, times left out."""
    what: list[str] = []
    if before.kind != DIRECTORY and before.data != after.data:
        what.append("content" if before.kind == FILE else "target")
    if before.mode != after.mode:
        what.append(f"mode {before.mode:04o} -> {after.mode:04o}")
    if (before.uid, before.gid) != (after.uid, after.gid):
        what.append(f"owner {before.uid}:{before.gid} -> {after.uid}:{after.gid}")
    if before.xattrs != after.xattrs:
        what.append("attributes")
    return tuple(what)
