"""Images from a layout directory or archive (OCI image-spec, image-layout.md) and from ``docker save`` archives.

Manifest, configuration and layers are verified as they are read; layers are flattened into one directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from boxwright.errors import FetchError
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import ImageConfig
from boxwright.sources.blobs import (
    ArchiveFiles,
    DirectoryFiles,
    Files,
    Verified,
    blob_name,
    document,
    opened,
    valid_digest,
)
from boxwright.sources.compressed import plain_reader
from boxwright.sources.imageconfig import Json, bad, json_object, nested, objects, parse_config, strings, text, whole
from boxwright.sources.unpack import Keep, Replayed, replay_layer, unpack_tar

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_REF = "org.opencontainers.image.ref.name"
_NAMES = (_REF, "io.containerd.image.name")
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image's configuration; `digest` names its manifest (of a docker-archive: its configuration)."""

    config: ImageConfig
    digest: Digest
    layers: int


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    digest: Digest
    plain: bool
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """An image that was found and whose configuration is verified; its layers have not been read."""

    config: ImageConfig
    digest: Digest
    layers: tuple[_Layer, ...]


def find_layout(files: Files, platform: str, tag: str = "") -> Opened:
    """The image in a layout: the one named `tag` (or ``sha256:...``), of the platform OS/ARCHITECTURE[/VARIANT]."""
    json_object(document(files, "oci-layout", "the layout's mark"), "oci-layout")
    index = json_object(document(files, "index.json", "the index"), "index.json")
    descriptor = _choose(_named(objects(index, "manifests"), tag), platform)
    for _ in range(_DEPTH):
        digest = valid_digest(descriptor.get("digest"))
        data = document(files, blob_name(digest), "the manifest", digest)
        manifest = json_object(data, "the manifest")
        if text(descriptor, "mediaType") not in _INDEXES and "manifests" not in manifest:
            return _from_manifest(files, manifest, digest, platform)
        descriptor = _choose(objects(manifest, "manifests"), platform)
    raise bad("indexes without end")


def find_docker_archive(files: Files, platform: str, tag: str = "") -> Opened:
    """The image in a ``docker save`` archive (Docker's image specification v1.2, "Combined Image JSON")."""
    data = document(files, "manifest.json", "the manifest")
    try:
        images = objects({"images": json.loads(data)}, "images")
    except ValueError as error:
        raise bad("manifest.json is no JSON") from error
    images = [image for image in images if not tag or tag in (strings(image, "RepoTags") or ())]
    if len(images) != 1:
        raise _ambiguous(len(images), [name for image in images for name in strings(image, "RepoTags") or ()], tag)
    raw = document(files, text(images[0], "Config"), "the configuration")
    digest = digest_of(raw)
    names = strings(images[0], "Layers") or ()
    diff_ids = strings(nested(json_object(raw, "its configuration"), "rootfs"), "diff_ids") or ()
    if len(names) != len(diff_ids):
        raise bad("it has more layers than its configuration says, or fewer")
    layers = [_Layer(name, valid_digest(diff_id), plain=True) for name, diff_id in zip(names, diff_ids, strict=True)]
    config = parse_config(raw)
    _check_platform(config, platform)
    return Opened(config, digest, tuple(layers))


class Kept(Protocol):
    """Layers that were unpacked before."""

    def members(self, digest: Digest) -> Sequence[Replayed] | None:
        """What is in a layer, None where it must be unpacked. Its content was compared with what it was."""
        ...

    def keeping(self, digest: Digest) -> AbstractContextManager[Keep]:
        """Keep a layer while it is unpacked. What was not unpacked to its end, and verified, is not kept."""
        ...


def flatten(files: Files, image: Opened, destination_directory: str, kept: Kept | None = None) -> ImportedImage:
    """Put an image's layers one over the other into an empty directory."""
    os.chmod(destination_directory, 0o755)  # noqa: S103 - a root directory is open to its users
    os.utime(destination_directory, (0, 0))
    for number, layer in enumerate(image.layers, 1):
        what = f"layer {number} of {len(image.layers)}"
        known = kept.members(layer.digest) if kept else None
        if known is not None:
            before = any(it.digest == layer.digest for it in image.layers[: number - 1])
            replay_layer(known, destination_directory, copy=before)
            continue
        with opened(files, layer.name, what) as source, kept.keeping(layer.digest) if kept else nullcontext() as keep:
            _unpack_layer(source, layer, destination_directory, what, keep)
    return ImportedImage(image.config, image.digest, len(image.layers))


def _unpack_layer(source: Verified, layer: _Layer, destination: str, what: str, keep: Keep | None) -> None:
    """Unpack a layer whose digest is that of its bytes or, `plain`, of what they are when decompressed."""
    if not layer.plain:
        unpack_tar(source, destination, overlay_whiteouts=True, keep=keep)  # type: ignore[arg-type]
        source.finish(layer.digest, what, layer.size)
        return
    with plain_reader(source) as stream:  # type: ignore[arg-type]
        inner = Verified(stream)
        unpack_tar(inner, destination, overlay_whiteouts=True, keep=keep)  # type: ignore[arg-type]
        inner.finish(layer.digest, what)


def import_image(source: str, name: str, destination_directory: str, platform: str) -> ImportedImage:
    """Import ``oci``, ``oci-archive`` or ``docker-archive`` by its path, with ``:TAG`` where there are several."""
    path, tag = _split(name)
    if not path.exists():
        raise FetchError("oci.missing", f"{path} is not there")
    files: Files = DirectoryFiles(str(path)) if path.is_dir() else ArchiveFiles(str(path))
    with closing(files):
        find = find_docker_archive if source == "docker-archive" else find_layout
        return flatten(files, find(files, platform, tag), destination_directory)


def image_config(source: str, name: str, platform: str) -> tuple[ImageConfig, Digest]:
    """The configuration and digest of such an image, without reading its layers."""
    path, tag = _split(name)
    if not path.exists():
        raise FetchError("oci.missing", f"{path} is not there")
    files: Files = DirectoryFiles(str(path)) if path.is_dir() else ArchiveFiles(str(path))
    with closing(files):
        image = (find_docker_archive if source == "docker-archive" else find_layout)(files, platform, tag)
        return image.config, image.digest


def _split(name: str) -> tuple[Path, str]:
    if Path(name).exists():
        return Path(name), ""
    path, _, tag = name.partition(":")
    return Path(path), tag


def choose_platform(index: Json, platform: str) -> Json:
    """The descriptor in an index for the platform OS/ARCHITECTURE[/VARIANT]. Raises FetchError `oci.no-platform`."""
    return _choose(objects(index, "manifests"), platform)


def _named(manifests: Sequence[Json], tag: str) -> Sequence[Json]:
    if not tag:
        return manifests
    found = [item for item in manifests if _is_named(item, tag)]
    if not found:
        raise FetchError("oci.no-tag", f"the layout has no image {tag!r}", hint=_names_in(manifests))
    return found


def _is_named(descriptor: Json, tag: str) -> bool:
    annotations = nested(descriptor, "annotations")
    names = [text(annotations, key) for key in _NAMES]
    return tag in names or descriptor.get("digest") == tag or any(name.endswith(f":{tag}") for name in names)


def _names_in(manifests: Sequence[Json]) -> str:
    names = sorted({text(nested(item, "annotations"), _REF) for item in manifests} - {""})
    return f"it has {', '.join(names)}" if names else ""


def _choose(manifests: Sequence[Json], platform: str) -> Json:
    """The manifest for a platform (OCI image-spec, image-index.md, "platform"); one alone needs none."""
    images = [item for item in manifests if text(nested(item, "platform"), "os") != "unknown"]
    exact = [item for item in images if _fits(nested(item, "platform"), platform)]
    found = exact or [item for item in images if not nested(item, "platform")]
    distinct = {item.get("digest") for item in found}
    if len(distinct) == 1 or exact:
        return found[0] if not exact or len(distinct) == 1 else _one(exact, platform)
    if not found and images:
        has = ", ".join(sorted({_spelt(nested(item, "platform")) for item in images}))
        raise FetchError("oci.no-platform", f"the image is not there for {platform}", hint=f"it is for {has}")
    raise _ambiguous(len(distinct), [text(nested(item, "annotations"), _REF) for item in found], "")


def _one(exact: Sequence[Json], platform: str) -> Json:
    """Of several that fit: without a variant asked for, the one without, else an error if they carry names."""
    names = {text(nested(item, "annotations"), _REF) for item in exact} - {""}
    if len(names) > 1:
        raise _ambiguous(len(exact), sorted(names), "")
    spelt = [item for item in exact if _spelt(nested(item, "platform")) == platform]
    return (spelt or list(exact))[0]


def _spelt(platform: Json) -> str:
    parts = (text(platform, "os"), text(platform, "architecture"), text(platform, "variant"))
    return "/".join([part for part in parts if part])


def _fits(found: Json, platform: str) -> bool:
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    same = text(found, "os") == system and text(found, "architecture") == architecture
    return same and (not variant or text(found, "variant") in ("", variant))


def _ambiguous(count: int, names: Sequence[str], tag: str) -> FetchError:
    if not count:
        return FetchError("oci.no-tag", f"no image {tag!r} is there" if tag else "no image is there")
    shown = ", ".join([name for name in names if name])
    return FetchError("oci.ambiguous", f"{count} images are there", hint=f"add :TAG; there are {shown}")


def _from_manifest(files: Files, manifest: Json, digest: Digest, platform: str) -> Opened:
    descriptor = nested(manifest, "config")
    name = valid_digest(descriptor.get("digest"))
    annotations = {key: value for key, value in nested(manifest, "annotations").items() if isinstance(value, str)}
    config = parse_config(document(files, blob_name(name), "the configuration", name), annotations)
    _check_platform(config, platform)
    layers = []
    for layer in objects(manifest, "layers"):
        kind = text(layer, "mediaType")
        if "+encrypted" in kind or ".tar" not in kind:
            raise FetchError("oci.unsupported", f"a layer of type {kind!r} can't be unpacked")
        found = valid_digest(layer.get("digest"))
        layers.append(_Layer(blob_name(found), found, plain=False, size=whole(layer, "size")))
    return Opened(config, digest, tuple(layers))


def _check_platform(config: ImageConfig, platform: str) -> None:
    if not config.architecture:
        return
    system, _, rest = platform.partition("/")
    if (config.os, config.architecture) != (system, rest.partition("/")[0]):
        raise FetchError(
            "oci.no-platform",
            f"the image is not there for {platform}",
            hint=f"it is for {config.os}/{config.architecture}",
        )
