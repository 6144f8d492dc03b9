"""The one entry point of the writers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from boxwright.errors import UsageError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.layer import Layer, Packing
from boxwright.model.image import Image
from boxwright.ports import TreeReader, WriteRequest

KINDS = ("oci", "oci-archive", "docker-archive", "lxc", "lxd", "rootfs", "tar", "squashfs", "aci")
"""The kinds of `-o KIND:DEST` (docs/outputs.md)."""

LAYERED = ("oci", "oci-archive", "docker-archive")
"""The kinds that can have a layer for each instruction."""

_ARCHIVES = {
    "oci": "zstd",
    "oci-archive": "zstd",
    "docker-archive": "none",
    "lxd": "gzip",
    "squashfs": "zstd",
    "aci": "gzip",
}
"""The default compression of each. LXD reads zstd as well, but only where the program zstd is installed."""

OPTIONS = ("compression", "level")


def check_kind(kind: str) -> None:
    """UsageError unless there is a writer for `kind`; to be asked before anything is built."""
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(KINDS)}"
        raise UsageError("output.unknown-kind", f"{kind!r} is no kind of output", hint=hint)


def write(  # noqa: PLR0913 - each names one thing that a kind may want to know
    image: Image,
    reader: TreeReader,
    kind: str,
    destination: Path,
    *,
    name: str = "",
    compression: str | None = None,
    level: int | None = None,
    layers: Sequence[Layer] = (),
    manifest: str = "",
) -> WrittenArtifact:
    """Write `image` as `kind` to `destination`, whole or not at all.

    `name` is what the image is called in formats that hold a name. `compression` (none, zstd, gzip, xz) and `level`
    where the kind leaves a choice; None is its default. `layers` is for the kinds in
    LAYERED; without, the image is flat. `manifest` is that of an ACI, made from
    the configuration where it is empty. Raises BoxwrightError (codes ``output.*``, ``store.*``).
    """
    check_kind(kind)
    _check_choice(kind, compression)
    if kind == "aci":
        from boxwright.images.aci import write_aci

        return write_aci(image, reader, destination, name, Packing(compression or "gzip", level), manifest)
    if kind in _ARCHIVES:
        packing = Packing(compression or _ARCHIVES[kind], level)
        return _write_archive(image, reader, kind, destination, name, packing, layers)
    if kind == "lxc":
        from boxwright.images.lxc import write_lxc

        return write_lxc(image, reader, destination, name, level)
    if kind == "rootfs":
        from boxwright.images.rootfs import write_rootfs

        return write_rootfs(image, reader, destination)
    from boxwright.images.plain import write_tar

    return write_tar(image, reader, destination, compression, level)


def _write_archive(
    image: Image,
    reader: TreeReader,
    kind: str,
    destination: Path,
    name: str,
    packing: Packing,
    layers: Sequence[Layer],
) -> WrittenArtifact:
    """The kinds that have a compression of their own choice. Each writer is imported when it is used."""
    if kind == "squashfs":
        from boxwright.images.squashfs import write_squashfs

        return write_squashfs(image, reader, destination, packing)
    if kind == "lxd":
        from boxwright.images.lxd import write_lxd

        return write_lxd(image, reader, destination, name, packing)
    if kind == "docker-archive":
        from boxwright.images.docker import write_archive

        return write_archive(image, reader, destination, name, layers)
    from boxwright.images import oci

    writer = oci.write_layout if kind == "oci" else oci.write_archive
    return writer(image, reader, destination, name, packing, layers)


def _check_choice(kind: str, compression: str | None) -> None:
    """UsageError for a compression that a kind has no room for."""
    fixed = {"docker-archive": "none", "rootfs": "none", "lxc": "xz"}
    if compression is not None and fixed.get(kind, compression) != compression:
        raise UsageError("output.fixed-compression", f"{kind} is always {fixed[kind]}, not {compression}")


def write_request(
    image: Image, reader: TreeReader, request: WriteRequest, layers: Sequence[Layer] = ()
) -> WrittenArtifact:
    """Write what a request asks for. Its options: ``compression``, ``level``."""
    for option in request.options:
        if option not in OPTIONS:
            raise UsageError(
                "output.unknown-option", f"{request.kind} has no option {option!r}", hint=f"one of {', '.join(OPTIONS)}"
            )
    text = request.options.get("level")
    if text is not None and not text.isdecimal():
        raise UsageError("output.bad-level", f"a level is a number, not {text!r}")
    return write(
        image,
        reader,
        request.kind,
        request.destination,
        name=request.name,
        compression=request.options.get("compression"),
        level=None if text is None else int(text),
        layers=layers,
        manifest=request.manifest,
    )
