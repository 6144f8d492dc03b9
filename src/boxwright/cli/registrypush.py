"""The registry half of `push`, and `build --push`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from boxwright.app.opening import open_store
from boxwright.cli import registryoptions
from boxwright.cli.console import human_size, note, say
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.app.outputs import Delivered
    from boxwright.app.registrypush import Pushed
    from boxwright.app.signing import Signer
    from boxwright.images.layer import Layer
    from boxwright.model.digest import Digest
    from boxwright.model.image import Image
    from boxwright.repositories.registry.client import Client
    from boxwright.sources.reference import RegistryName
    from boxwright.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """The options for registries."""
    add = parser.add_argument
    add("--layers", default="", metavar="HOW", help="flat, auto or auto:N (default auto:64): at most N layers")
    add("--compression", default="gzip", choices=("zstd", "gzip", "none"), metavar="KIND", help="zstd, gzip or none")
    add("--compression-level", type=int, default=None, metavar="N")
    add("--sbom", action="append", default=[], choices=("spdx", "cyclonedx"), help="push a bill of materials beside it")
    add("--provenance", action="store_true", help="push beside it how it was built (SLSA)")
    add("--sign", default="", metavar="KEY", help="sign it, as cosign does, with the private key in a PEM file")
    add("--digestfile", metavar="FILE", help="write the manifest's digest to a file")
    add("-q", "--quiet", action="store_true", help="print digests alone")
    registryoptions.configure(parser)


def run(options: argparse.Namespace) -> int:
    """Push an image of the store."""
    from boxwright.app.layering import INSTRUCTIONS, parse_layering
    from boxwright.app.lookup import find_image, names_of
    from boxwright.app.registrypush import check_names

    if parse_layering(options.layers).kind == INSTRUCTIONS:
        hint = "an image of the store has no instructions any more: boxwright build --layers --push"
        raise UsageError("usage.layers", "--layers instructions: only while it is built", hint=hint)
    with open_store(os.environ) as store:
        image = find_image(store, options.image)
        own = names_of(store, image)
        given = [name for name in own if name in (options.image, f"{options.image}:latest")]
        names = check_names(options.places or given or own)
        for pushed in _push(image, store, options, names, ()):
            if options.quiet:
                say(pushed.digest)
            else:
                _report(pushed)
    if options.digestfile:
        with open(options.digestfile, "w", encoding="ascii") as file:
            file.write(pushed.digest)
    return 0


def push_built(
    image: Image, store: Store, options: argparse.Namespace, layers: Sequence[Layer]
) -> tuple[Delivered, ...]:
    """Push what was built under its names; without `layers`, those of its instructions, they are chosen."""
    from boxwright.app.names import image_name
    from boxwright.app.outputs import Delivered
    from boxwright.app.registrypush import check_names

    options = argparse.Namespace(**{**_defaults(), **vars(options), "layers": "" if layers else options.layers})
    names = check_names([image_name(tag) for tag in options.tag])
    delivered = []
    for pushed in _push(image, store, options, names, layers):
        if not options.quiet and options.progress != "json":
            _report(pushed)
        delivered.append(Delivered("registry", pushed.name, pushed.digest, pushed.config))
    return tuple(delivered)


def _defaults() -> dict[str, object]:
    parser = argparse.ArgumentParser(add_help=False)
    configure(parser)
    return vars(parser.parse_args([]))


def _push(
    image: Image,
    store: Store,
    options: argparse.Namespace,
    names: Sequence[RegistryName],
    layers: Sequence[Layer],
) -> Iterator[Pushed]:
    from boxwright.app.attachments import Wanted, attach_all
    from boxwright.app.layering import AUTO, parse_layering, shared_out
    from boxwright.app.privileges import ensure_privileges
    from boxwright.app.registries import opened_registries
    from boxwright.app.registrypush import push_image
    from boxwright.images.layer import Packing
    from boxwright.images.referrers import Subject

    signer = _signer(options.sign)
    wanted = Wanted(tuple(dict.fromkeys(options.sbom)), options.provenance, signer)
    packing = Packing(options.compression, options.compression_level)

    def beside(client: Client, digest: Digest, size: int) -> None:
        for what in attach_all(client, image, store, Subject(digest, size), wanted):
            if not options.quiet:
                note(f"with {what}")

    with opened_registries(registryoptions.environment(options), registryoptions.reach(options)) as registries:
        ensure_privileges()
        chosen = layers or shared_out(image, store, parse_layering(options.layers, default=AUTO))
        for name in names:
            yield push_image(image, chosen, name, registries, store, packing, beside=beside)


def _signer(path: str) -> Signer | None:
    if not path:
        return None
    from boxwright.app.signing import read_signer

    return read_signer(path, os.environ)


def _report(pushed: Pushed) -> None:
    note(f"{pushed.sent_layers} of {pushed.layers} layers, {human_size(pushed.sent)} sent")
    say(f"{pushed.name}@{pushed.digest}")
