"""What somebody asks for by name, brought from the repositories: images and packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from boxwright.app.acimanifest import keep_manifest
from boxwright.app.binaries import receive
from boxwright.app.names import image_name
from boxwright.app.repositories import Opened
from boxwright.app.treepull import pull_tree
from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import Image
from boxwright.repositories.binary.records import ImageEntry, NameEntry, PackageEntry, TreeEntry
from boxwright.repositories.ports import Wanted
from boxwright.store.images import Images, config_from_text
from boxwright.store.packages import Packages
from boxwright.store.store import Store

FEWEST_DIGITS = 6
Warn = Callable[[str], None]
"""Told of a repository that was passed over."""


class Brought(NamedTuple):
    """What came: its name, identity and size, the repository's name, and the bytes of content that were sent."""

    kind: str
    name: str
    identity: str
    size: int
    origin: str
    received: int


class Hit(NamedTuple):
    """Something that a search found."""

    kind: str
    name: str
    identity: str
    platform: str
    time: int
    origin: str


def never() -> bool:
    """Nobody cancels."""
    return False


def pull(asked: Sequence[Opened], name: str, store: Store, warn: Warn) -> Brought:
    """Bring an image (by name or identity) or a package (by name or HASH) from the first repository that has it.

    One that can't be asked, or gives something else than it says, is passed over with a warning; where no other has
    what is wanted, its error is raised.
    """
    refused: list[str] = []
    failures: list[tuple[str, FetchError]] = []
    for it in asked:
        try:
            found = _pull_image(it, name, store) or _pull_package(it, name, store)
        except FetchError as error:
            failures.append((it.configured.name, error))
            continue
        if found is not None:
            for repository, failure in failures:
                warn(f"{name} is not taken from {repository}: {failure.message} [{failure.code}]")
            return found
        refused += it.catalog.refused
    if failures:
        raise failures[0][1]
    if refused:
        raise FetchError(
            "repository.untrusted",
            f"{name} is there but can't be trusted: {refused[0]}",
            hint="put the publisher's key under `keys:` of the repository, if you trust it",
        )
    where = ", ".join(it.configured.name for it in asked)
    raise FetchError(
        "repository.unknown", f"{name} is in no repository ({where})", hint="'boxwright search' lists them"
    )


def _pull_image(it: Opened, name: str, store: Store) -> Brought | None:
    entry = _image_entry(it, name)
    if entry is None:
        return None
    image, received = bring_image(it, entry, store)
    tag = _as_tag(name)
    if tag:
        Images(store).tag(image, tag)
    return Brought("image", tag or entry.name, image.identity, image.size, it.configured.name, received)


def bring_image(it: Opened, entry: ImageEntry, store: Store) -> tuple[Image, int]:
    """The image of a checked record, and the bytes of content that came. Raises FetchError."""
    key = digest_of(f"boxwright-pulled-1\0{entry.full}".encode())
    pulled = pull_tree(store, it.catalog, entry, key, never)
    try:
        config = config_from_text(entry.config)
    except (ValueError, TypeError, KeyError) as error:
        raise FetchError("repository.altered", f"the configuration of {entry.name} is damaged: {error}") from error
    image = Images(store).keep(config, pulled.snapshot, ())
    if image.identity != entry.identity:
        Images(store).remove(image.identity)
        raise FetchError("repository.altered", f"{entry.name} is {image.identity}, not {entry.identity}")
    if entry.manifest:
        keep_manifest(store, image, entry.manifest)
    return image, pulled.received


def bring_tree(it: Opened, content: Digest, store: Store) -> bool:
    """Bring a tree by its content; returns whether the repository has it. Raises FetchError."""
    entry = it.catalog.lookup([("tree", content)]).get(("tree", content))
    if not isinstance(entry, TreeEntry):
        return False
    pull_tree(store, it.catalog, entry, digest_of(f"boxwright-pulled-1\0{entry.full}".encode()), never)
    return True


def _image_entry(it: Opened, name: str) -> ImageEntry | None:
    tag = _as_tag(name)
    identity = name if name.startswith("sha256:") else ""
    if not identity and tag:
        named = it.catalog.named(tag)
        identity = named.image if named is not None else ""
    if not identity or len(identity) != len("sha256:") + 64:
        return None
    entry = it.catalog.lookup([("image", identity)]).get(("image", identity))
    return entry if isinstance(entry, ImageEntry) else None


def _as_tag(name: str) -> str:
    try:
        return "" if name.startswith("sha256:") else image_name(name)
    except BoxwrightError:
        return ""


def _pull_package(it: Opened, name: str, store: Store) -> Brought | None:
    entry = _package_entry(it, name)
    if entry is None:
        return None
    wanted = Wanted(Digest(entry.definition))
    offer = it.packages.find([wanted]).get(wanted)
    if offer is None:
        return None
    receive(store, Packages(store), it.packages, offer, never)
    return Brought("package", entry.name, entry.definition, entry.blob.plain, it.configured.name, entry.blob.size)


def _package_entry(it: Opened, name: str) -> PackageEntry | None:
    """The newest package of this name, or the one whose HASH begins so."""
    digits = name.removeprefix("sha256:")
    found = [entry for entry in it.catalog.everything() if isinstance(entry, PackageEntry)]
    named = [entry for entry in found if entry.name == name]
    if not named and len(digits) >= FEWEST_DIGITS:
        named = [entry for entry in found if entry.definition.startswith(f"sha256:{digits}")]
    return max(named, key=lambda entry: entry.time, default=None)


def search(asked: Sequence[Opened], words: Sequence[str], warn: Warn) -> list[Hit]:
    """Packages and names of images that hold all the words, by name, the newest of a name first.

    A repository that can't be asked is passed over with a warning; where none can, its error is raised.
    """
    hits: list[Hit] = []
    failures: list[FetchError] = []
    for it in asked:
        try:
            hits += _hits(it, words)
        except FetchError as error:
            failures.append(error)
            warn(f"{it.configured.name} is not asked: {error.message} [{error.code}]")
    if failures and len(failures) == len(asked):
        raise failures[0]
    return sorted(hits, key=lambda hit: (hit.name, -hit.time))


def _hits(it: Opened, words: Sequence[str]) -> list[Hit]:
    hits: dict[tuple[str, str], Hit] = {}
    newest: dict[str, NameEntry] = {}
    for entry in it.catalog.everything():
        if not all(word.lower() in entry.name.lower() for word in words):
            continue
        if isinstance(entry, PackageEntry):
            hit = Hit("package", entry.name, entry.definition, entry.platform, entry.time, it.configured.name)
            hits[hit.kind, hit.identity] = hit
        elif isinstance(entry, NameEntry) and entry.number > getattr(newest.get(entry.name), "number", 0):
            newest[entry.name] = entry
            hits["image", entry.name] = Hit("image", entry.name, entry.image, "", entry.time, it.configured.name)
    return list(hits.values())
