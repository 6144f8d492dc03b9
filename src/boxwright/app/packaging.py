"""The images that a container's definition asks for: where they are written, and whether they are there already."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from boxwright.app.acimanifest import keep_manifest
from boxwright.errors import BoxwrightError
from boxwright.frontends.container.graph import ContainerGraph, ContainerImage
from boxwright.model.digest import digest_of
from boxwright.model.image import Image, ImageConfig
from boxwright.ports import WriteRequest
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from boxwright.store.provenance import Provenance
from boxwright.store.store import Store

ENDINGS = {"aci": ".aci", "oci": "", "lxc": "", "lxd": ".lxd.tar.gz", "rootfs": "", "squashfs": ".squashfs"}
"""Of the names that images are written under; those without are directories."""


SINGLE = frozenset({"aci", "lxd", "squashfs"})


class Packaged(NamedTuple):
    """An image of the definition: what it is, and where it is to be written (or was, where `done`)."""

    image: Image
    wanted: ContainerImage
    path: str
    done: bool


def packagings(container: ContainerGraph, image: Image, store: Store, name: str) -> list[Packaged]:
    """What is to be written of the definition's images; what is there already is only looked at."""
    found: list[Packaged] = []
    for number, wanted in enumerate(container.images):
        own = image
        if number:
            own = Images(store).keep(wanted.config, image.snapshot, ())
            Provenance(store).describe_like(own, image)
        if wanted.manifest:
            keep_manifest(store, own, wanted.manifest)
        path = _path(container, wanted, image.config)
        found.append(Packaged(own, wanted, path, _written(store, own, wanted, path, name)))
    return found


def check_packagings(container: ContainerGraph, config: ImageConfig, store: Store) -> None:
    """Raise `output.twice` where two images go to one place, and `output.not-empty` where a file is not one of ours.

    Writers look at directories themselves; of a file what was remembered says who wrote it, or that it is an image: a
    store may be newer than what an older one wrote.
    """
    seen: set[str] = set()
    for wanted in container.images:
        path = _path(container, wanted, config)
        if path in seen:
            raise BoxwrightError(
                "output.twice",
                f"two images would be written to {path}",
                hint="give one of them another `output`",
                where=wanted.where,
            )
        seen.add(path)
        is_new = Packages(store).pin(f"written {path}") is None and os.path.lexists(path)
        if wanted.type in SINGLE and is_new:
            from boxwright.images.paths import is_archive, not_empty

            if not is_archive(path):
                error = not_empty(Path(path), "an image")
                error.where = wanted.where
                raise error


def _path(container: ContainerGraph, wanted: ContainerImage, config: ImageConfig) -> str:
    return os.path.abspath(wanted.output or _file_name(container, wanted, config))


def _file_name(container: ContainerGraph, wanted: ContainerImage, config: ImageConfig) -> str:
    """``NAME-VERSION-OS-ARCHITECTURE.aci`` (App Container Specification, "Image Discovery")."""
    parts = (container.name, container.version, config.os, config.architecture)
    stem = "-".join(re.sub(r"[^\w.+~-]", "-", part) for part in parts if part)
    return f"{stem}{ENDINGS[wanted.type] or '.' + wanted.type}"


def _mark(image: Image, wanted: ContainerImage, path: str, name: str) -> str:
    """What was written where, and what it looks like on the disk; empty where nothing is there."""
    looks = _looks(path)
    manifest = digest_of(wanted.manifest.encode()) if wanted.manifest else ""
    return f"{wanted.type} {name} {image.identity} {manifest} {looks}" if looks else ""


def _looks(path: str) -> str:
    """What a file, or a directory with everything below it, looks like; empty where nothing is there."""
    try:
        lines = [_status(path)]
    except OSError:
        return ""
    for parent, directories, files in os.walk(path):
        lines += [f"{name} {_status(f'{parent}/{name}')}" for name in sorted((*directories, *files))]
    return digest_of("\n".join(lines).encode("utf-8", "surrogateescape"))


def _status(path: str) -> str:
    status = os.lstat(path)
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino} {status.st_mode}"


def _written(store: Store, image: Image, wanted: ContainerImage, path: str, name: str) -> bool:
    pin = Packages(store).pin(f"written {path}")
    return pin is not None and pin == _mark(image, wanted, path, name)


def write_packaged(packaged: Packaged, store: Store, name: str) -> None:
    """Write an image where it goes."""
    from boxwright.app.privileges import ensure_privileges
    from boxwright.images.writers import write_request

    ensure_privileges()
    wanted = packaged.wanted
    write_request(packaged.image, store, WriteRequest(wanted.type, Path(packaged.path), name, manifest=wanted.manifest))
    mark = _mark(packaged.image, wanted, packaged.path, name)
    if mark:
        Packages(store).keep_pin(f"written {packaged.path}", mark)
