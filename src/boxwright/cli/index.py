"""Images of several platforms under one name: boxwright index create NAME IMAGE..., index inspect NAME."""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.app.opening import open_store
from boxwright.cli import registryoptions
from boxwright.cli.console import note, say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `index`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="put images under one name; those of registries are copied there")
    create.add_argument("name", metavar="NAME", help="[REGISTRY/]REPOSITORY[:TAG]")
    create.add_argument("images", nargs="+", metavar="IMAGE", help="of the store, or of a registry")
    create.add_argument("--append", action="store_true", help="keep what is there for other platforms")
    create.add_argument("--sign", default="", metavar="KEY", help="sign the index with the private key in a PEM file")
    registryoptions.configure(create)
    inspect = actions.add_parser("inspect", help="print what stands under a name, as it is")
    inspect.add_argument("name", metavar="NAME")
    registryoptions.configure(inspect)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    return _create(options) if options.action == "create" else _inspect(options)


def _create(options: argparse.Namespace) -> int:
    from boxwright.app.attachments import sign
    from boxwright.app.indexing import make_index
    from boxwright.app.lookup import find_image
    from boxwright.app.privileges import ensure_privileges
    from boxwright.app.registries import opened_registries
    from boxwright.app.signing import read_signer
    from boxwright.errors import BoxwrightError
    from boxwright.images.layer import Packing
    from boxwright.images.referrers import Subject
    from boxwright.model.image import Image
    from boxwright.repositories.registry.client import INDEX_TYPE
    from boxwright.sources.reference import RegistryName, parse_registry_name
    from boxwright.store.store import Store

    def meant(store: Store, text: str) -> Image | RegistryName:
        try:
            return find_image(store, text)
        except BoxwrightError as error:
            if error.code != "image.unknown":
                raise
            return parse_registry_name(text)

    name = parse_registry_name(options.name)
    signer = read_signer(options.sign, os.environ) if options.sign else None
    reach = registryoptions.reach(options)
    with open_store(os.environ) as store, opened_registries(registryoptions.environment(options), reach) as registries:
        images = [meant(store, text) for text in options.images]
        ensure_privileges()
        digest, platforms = make_index(name, images, registries, store, Packing("gzip"), append=options.append)
        if signer is not None:
            client = registries.client(registries.route(name).home, push=True)
            index = client.manifest(digest)
            sign(client, Subject(digest, len(index.data) if index else 0, INDEX_TYPE), signer)
    note(", ".join(platforms))
    say(f"{name}@{digest}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from boxwright.app.registries import opened_registries
    from boxwright.repositories.registry.failures import RegistryError
    from boxwright.sources.reference import parse_registry_name

    name = parse_registry_name(options.name)
    reach = registryoptions.reach(options)
    with opened_registries(registryoptions.environment(options), reach) as registries:
        found = registries.client(registries.route(name).home).manifest(name.digest or name.tag)
    if found is None:
        raise RegistryError("registry.not-found", f"{name} is not there", hint="are its name and its tag right?")
    sys.stdout.write(found.data.decode("utf-8", "replace").rstrip("\n") + "\n")
    return 0
