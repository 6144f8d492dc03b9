"""Modules and manifests that an image holds: whatever keeps images (a repository, a registry) shares them.

``image:NAME[#DIRECTORY]`` is an image that is here, else of a configured repository, else of a registry.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

from boxwright.app.names import image_name
from boxwright.app.privileges import ensure_privileges
from boxwright.errors import BoxwrightError, DefinitionError, FetchError
from boxwright.images.members import members
from boxwright.model.graph import Graph, Node
from boxwright.model.image import Image, ImageConfig, Snapshot
from boxwright.model.span import Span
from boxwright.model.tree import DIRECTORY, FILE, SYMLINK
from boxwright.ports import Resolver, TreeReader
from boxwright.store.images import Images
from boxwright.store.store import Store

SCHEME = "image:"


class ImageAddress(NamedTuple):
    """An image's name, and the directory in its tree that is meant."""

    name: str
    subdirectory: str = ""


def parse_image_address(text: str) -> ImageAddress | None:
    """What ``image:NAME[#DIRECTORY]`` means; None for anything else. Raises `manifest.outside`."""
    if not text.startswith(SCHEME):
        return None
    name, _, subdirectory = text.removeprefix(SCHEME).partition("#")
    if ".." in subdirectory.split("/"):
        raise DefinitionError("manifest.outside", f"{text} leads out of the image")
    return ImageAddress(name, subdirectory.strip("/"))


def image_tree_graph(name: str, resolver: Resolver, platform: str, where: Span) -> Graph:
    """The graph whose result is the image's tree."""
    base = resolver.base(name, platform, where)
    node = Node(base.step, (), f"image {name}", "shared", where, base.shown)
    return Graph((node,), 0, ImageConfig(platform.split("/")[1]))


def bring_image(name: str, store: Store, directory: str, environment: Mapping[str, str], *, offline: bool) -> None:
    """Have an image of the configured repositories here, where one of them has it and it is not here yet."""
    if local_image(name, store) is not None:
        return
    from boxwright.app.pulling import pull
    from boxwright.app.repositories import opened
    from boxwright.app.repositoryconfiguration import binaries_for
    from boxwright.store.packages import Packages

    binaries = [it for it in binaries_for(directory, environment) if not offline or it.download.kind == "directory"]
    if not binaries:
        return
    ensure_privileges()
    with opened(binaries, Packages(store), environment) as found:
        try:
            pull(found, name, store, lambda _: None)
        except FetchError as error:
            if error.code != "repository.unknown":
                raise


def local_image(name: str, store: Store) -> Image | None:
    """The image of that name that is here."""
    try:
        return Images(store).find(image_name(name))
    except BoxwrightError:
        return None


def write_shared(snapshot: Snapshot, reader: TreeReader, directory: str) -> None:
    """Its directories, files and links below `directory`, as this user's own, whoever they belong to in the image."""
    ensure_privileges()
    for path, entry, physical, link in members(reader, snapshot):
        target = f"{directory}/{path}"
        if link is not None:
            os.link(f"{directory}/{link}", target, follow_symlinks=False)
        elif entry.kind == DIRECTORY:
            os.makedirs(target, exist_ok=True)
        elif entry.kind == SYMLINK:
            os.symlink(entry.data, target)
        elif entry.kind == FILE:
            with open(target, "xb") as file:
                if physical is not None:
                    with open(physical, "rb") as content:
                        shutil.copyfileobj(content, file)
            os.chmod(target, 0o755 if entry.mode & 0o100 else 0o644)


def publish_to_image(name: str, store: Store, environment: Mapping[str, str], place: Callable[[str], None]) -> Image:
    """The image of that name with what `place` puts into its tree; it keeps the name. Raises what `place` does."""
    from boxwright.app.build import prepare
    from boxwright.app.execution import execute
    from boxwright.app.request import BuildRequest

    with tempfile.TemporaryDirectory(prefix="boxwright-module-") as work:
        before = local_image(name, store)
        if before is not None:
            write_shared(before.snapshot, store, work)
        place(work)
        request = BuildRequest(work, text="FROM scratch\nCOPY . /\n", tags=(image_name(name),))
        return execute(prepare(request, store, environment), request, store, lambda _: None)
