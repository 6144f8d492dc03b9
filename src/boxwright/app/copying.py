"""Copies images between registries, layouts, archives and the store: the same bytes, with what belongs to them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from boxwright.app.blobcache import checked_size
from boxwright.app.parallel import run_all
from boxwright.app.registries import Registries
from boxwright.app.sides import (
    From,
    FromLayout,
    FromRegistry,
    Into,
    IntoLayout,
    IntoRegistry,
    scratch_file,
    write_archive,
)
from boxwright.errors import FetchError, UsageError
from boxwright.model.digest import Digest
from boxwright.repositories.registry.client import Manifest, blobs_of, descriptors, fallback_tag
from boxwright.repositories.registry.failures import RegistryError
from boxwright.sources.oci import choose_platform
from boxwright.sources.process import run_program
from boxwright.sources.reference import RegistryName, parse_registry_name

AT_ONCE = 4
_DEPTH = 4
TRANSPORTS = ("docker", "oci", "oci-archive", "docker-archive", "local")


class Where(NamedTuple):
    """One side as it was written: `kind` is one of TRANSPORTS; `place` a path or a name, `name` of the image in it."""

    kind: str
    place: str
    name: str = ""


class Copied(NamedTuple):
    """What a copy came to."""

    digest: Digest
    blobs: int
    moved: int


def parse_where(text: str) -> Where:
    """One side of a copy: NAME or ``docker://NAME``, ``oci:DIR[:TAG]`` and so on (docs/registries.md).

    Raises DefinitionError `registry.bad-name`, UsageError `usage.copy`.
    """
    kind, colon, rest = text.partition(":")
    if kind == "docker" and rest.startswith("//"):
        return Where("docker", rest[2:])
    if not colon or kind not in TRANSPORTS or not rest:
        parse_registry_name(text)
        return Where("docker", text)
    if kind == "local":
        return Where(kind, rest)
    if kind == "docker":
        raise UsageError("usage.copy", f"{text!r}: docker://NAME is expected")
    place, _, name = rest.partition(":")
    return Where(kind, place, name)


def copy(source: Where, target: Where, registries: Registries, platform: str = "") -> Copied:
    """Copy between registries, layouts and archives. Without `platform` all that an index names is copied.

    Raises FetchError, RegistryError, UsageError.
    """
    with tempfile.TemporaryDirectory(prefix="boxwright-copy-") as scratch:
        side, origin = _source(source, registries, scratch)
        sink, finish = _target(target, registries, scratch, origin)
        copied = _Copy(side, sink, scratch, registries).run(platform)
        finish()
        return copied


def copy_into(source: From, sink: Into, scratch: str, registries: Registries) -> Copied:
    """Copy what `source` says into `sink`; blobs pass through files in `scratch`."""
    return _Copy(source, sink, scratch, registries).run("")


def _source(where: Where, registries: Registries, scratch: str) -> tuple[From, RegistryName | None]:
    if where.kind == "docker":
        name = parse_registry_name(where.place)
        client = registries.client(registries.route(name).home)
        return FromRegistry(client, name.digest or name.tag), name
    if where.kind == "docker-archive":
        _skopeo(f"docker-archive:{_with_name(where)}", f"oci:{scratch}/in:image", FetchError)
        return FromLayout(f"{scratch}/in", ""), None
    return FromLayout(where.place, where.name), None


def _target(
    where: Where, registries: Registries, scratch: str, origin: RegistryName | None
) -> tuple[Into, Callable[[], None]]:
    if where.kind == "docker":
        name = parse_registry_name(where.place)
        if name.digest:
            raise UsageError(
                "usage.copy", f"{where.place}: a digest can't be given to what is copied", hint="use a tag"
            )
        near = origin.repository if origin is not None and origin.registry == name.registry else ""
        client = registries.client(registries.route(name).home, push=True)
        return IntoRegistry(client, name.tag, near), lambda: None
    if where.kind == "oci":
        return IntoLayout(Path(where.place), where.name), lambda: None
    layout = f"{scratch}/out"
    if where.kind == "oci-archive":
        return IntoLayout(Path(layout), where.name), lambda: write_archive(layout, Path(where.place))

    def finish() -> None:
        if os.path.exists(where.place):
            os.unlink(where.place)
        _skopeo(f"oci:{layout}:image", f"docker-archive:{_with_name(where)}", RegistryError)

    return IntoLayout(Path(layout), "image"), finish


def _with_name(where: Where) -> str:
    return f"{where.place}:{where.name}" if where.name else where.place


def _skopeo(source: str, target: str, kind: type[FetchError]) -> None:
    """Docker's archives are skopeo's to read and to write."""
    done = run_program(["skopeo", "--insecure-policy", "copy", "--quiet", source, target], package="skopeo")
    if done.status:
        said = done.tail.splitlines()[-1] if done.tail else f"skopeo ended with {done.status}"
        raise kind("copy.failed", f"{source} could not be copied: {said}")


class _Copy:
    """One copy."""

    def __init__(self, source: From, sink: Into, scratch: str, registries: Registries) -> None:
        self._registries = registries
        self._source = source
        self._sink = sink
        self._scratch = scratch
        self._seen: set[str] = set()
        self._blobs = 0
        self._moved = 0

    def run(self, platform: str) -> Copied:
        top = self._source.top()
        if platform and top.is_index:
            top = self._source.manifest(str(choose_platform(top.value, platform)["digest"]))
        self._image(top, _DEPTH, top=True)
        return Copied(top.digest, self._blobs, self._moved)

    def _image(self, manifest: Manifest, depth: int, *, top: bool = False) -> None:
        """Blobs first, then what refers to the manifest's own parts, then the manifest: nobody sees half of it."""
        if manifest.is_index:
            if not depth:
                raise FetchError("oci.bad-image", "the image is not well formed: indexes without end")
            for child in descriptors(manifest.value):
                self._image(self._source.manifest(str(child["digest"])), depth - 1)
        else:
            self._layers(manifest)
        for descriptor in self._source.referrers(manifest.digest):
            self._referrer(manifest.digest, descriptor)
        for kind in ("sig", "att"):
            self._beside(f"{fallback_tag(manifest.digest)}.{kind}")
        self._sink.put_manifest(manifest, top=top)

    def _referrer(self, subject: Digest, descriptor: Mapping[str, Any]) -> None:
        manifest = self._source.manifest(str(descriptor["digest"]))
        self._layers(manifest)
        self._sink.put_referrer(subject, manifest, descriptor)

    def _beside(self, tag: str) -> None:
        """What stands under one of cosign's tags; those who wrote it may not have said what it refers to."""
        if not isinstance(self._source, FromRegistry) or not isinstance(self._sink, IntoRegistry):
            return
        manifest = self._source.client.manifest(tag)
        if manifest is not None and not manifest.is_index:
            self._layers(manifest)
            self._sink.client.put_manifest(tag, manifest.data, manifest.media_type)

    def _layers(self, manifest: Manifest) -> None:
        blobs = dict.fromkeys(checked_size(blob) for blob in blobs_of(manifest.value))
        wanted = [blob for blob in blobs if blob[0] not in self._seen]
        self._seen.update(digest for digest, _ in wanted)
        several = isinstance(self._source, FromRegistry)
        moved = run_all([partial(self._blob, blob) for blob in wanted], AT_ONCE if several else 1, self._registries)
        self._blobs += len(moved)
        self._moved += sum(moved)

    def _blob(self, blob: tuple[Digest, int]) -> int:
        digest, size = blob
        if self._sink.has(digest):
            return 0
        path = scratch_file(self._scratch)
        try:
            self._source.save(digest, size, path)
            self._sink.put(digest, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return size
