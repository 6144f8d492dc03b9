"""Why something is in an image: whose it is, what needs it, and why that package is there."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.app.inventory import COMPOSITION, Inventory, Ownership, inventory_of
from boxwright.errors import BoxwrightError
from boxwright.model.image import Image
from boxwright.model.tree import FILE
from boxwright.steps.elf import read_elf
from boxwright.store.store import Store

SMALLEST = 52
MOST_NAMED = 3


class Presence(NamedTuple):
    """A file or a package in an image, in sentences: what it is, and why it is there."""

    what: str
    reasons: tuple[str, ...]


def said_owner(owner: Ownership) -> str:
    """Whose a file is, in words."""
    by = f"{owner.maker.title} ({owner.maker.place})" if owner.maker else "an unknown step"
    if owner.package == COMPOSITION:
        return f"composition, {by}"
    if owner.package:
        return f"{owner.package}, changed by {by}" if owner.changed else owner.package
    if owner.maker is not None and owner.maker.kind == "Base":
        return f"no package; it came with {owner.maker.title}"
    return f"no package; {by} made it" if owner.maker else "nobody knows: it was built before this was remembered"


def owner_of(image: Image, store: Store, path: str) -> tuple[str, Ownership]:
    """The file that a path of an image leads to, and whose it is. Raises `image.no-file`."""
    located = store.locate(image.snapshot.manifest, path)
    if located.entry is None:
        located = store.locate(image.snapshot.manifest, path, follow=False)
    owner = inventory_of(image, store).files.get(located.path) if located.entry is not None else None
    if owner is None:
        what = "is a directory" if located.entry is not None else "is not in the image"
        raise BoxwrightError("image.no-file", f"{path} {what}", hint="name a file; `boxwright list` has the packages")
    return located.path, owner


def why_in_image(image: Image, store: Store, thing: str) -> list[Presence]:
    """Why a library (by soname), a file (by path) or a package (by name) is there. Raises `image.no-file`."""
    inventory = inventory_of(image, store)
    needed = _needed_by(image, store)
    packages = [
        component.name
        for component in inventory.components
        if thing in {component.name, component.package, component.name.partition("=")[0]}
    ]
    if packages:
        return [_of_package(name, inventory, needed) for name in packages]
    paths = [path for path in inventory.files if path == thing.lstrip("/") or path.rpartition("/")[2] == thing]
    if not paths:
        raise BoxwrightError(
            "image.no-file", f"there is no file and no package {thing!r} in the image", hint="`boxwright list` lists"
        )
    return [_of_file(path, inventory, needed) for path in paths]


def _of_file(path: str, inventory: Inventory, needed: dict[str, list[str]]) -> Presence:
    owner = inventory.files[path]
    users: dict[str, list[str]] = {}
    for user in needed.get(path.rpartition("/")[2], []):
        if inventory.files[user].package != owner.package or not owner.package:
            users.setdefault(inventory.files[user].package or said_owner(inventory.files[user]), []).append(user)
    reasons = [
        f"{name} needs it: {', '.join(f'/{user}' for user in found[:MOST_NAMED])}"
        f"{f' and {len(found) - MOST_NAMED} more' if len(found) > MOST_NAMED else ''}"
        for name, found in sorted(users.items())
    ]
    reasons += [
        f"{component.name} is there because {component.reason}"
        for component in inventory.components
        if component.name == owner.package and component.reason
    ]
    return Presence(f"/{path}: {said_owner(owner)}", tuple(reasons))


def _of_package(name: str, inventory: Inventory, needed: dict[str, list[str]]) -> Presence:
    component = next(one for one in inventory.components if one.name == name)
    reasons = [component.reason] if component.reason else []
    maker = inventory.brought.get(name)
    if maker is not None and not component.reason:
        place = "" if maker.kind == "Base" else f" ({maker.place})"  # a base belongs to many definitions
        reasons.append(f"it came with {maker.title}{place}")
    reasons += [
        f"{other.name} depends on it"
        for other in inventory.components
        if (component.package in other.depends or component.name in other.depends)
        and not component.reason.startswith(f"{other.name} needs")
    ]
    for path, owner in inventory.files.items():
        library = path.rpartition("/")[2]
        if owner.package == name:
            users = {inventory.files[user].package or f"/{user}" for user in needed.get(library, [])} - {name}
            reasons += [f"{user} is linked with its {library}" for user in sorted(users)]
    return Presence(f"{name}: {component.files} files", tuple(reasons))


def _needed_by(image: Image, store: Store) -> dict[str, list[str]]:
    """By soname the files that are linked with it."""
    found: dict[str, list[str]] = {}
    for file in store.walk(image.snapshot):
        if file.entry.kind == FILE and file.physical and file.entry.size >= SMALLEST:
            elf = read_elf(file.physical)
            for soname in elf.needed if elf else ():
                found.setdefault(soname, []).append(file.path)
            if elf and elf.interpreter:
                found.setdefault(elf.interpreter.rpartition("/")[2], []).append(file.path)
    return found
