"""Show images or containers as JSON."""

from __future__ import annotations

import argparse
import json
import os

from boxwright.app.opening import open_store
from boxwright.cli.console import say
from boxwright.errors import BoxwrightError
from boxwright.model.image import Image
from boxwright.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `inspect`."""
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="an image, the beginning of its digest, or a container"
    )


def run(options: argparse.Namespace) -> int:
    """Print a JSON array with an object for each."""
    with open_store(os.environ) as store:
        objects = [_find(store, name) for name in options.names]
    say(json.dumps(objects, indent=2))
    return 0


def _find(store: Store, name: str) -> object:
    from boxwright.app.lookup import find_image

    try:
        return describe(store, find_image(store, name))
    except BoxwrightError as error:
        container = _container(store, name) if error.code == "image.unknown" else None
        if container is None:
            raise
        return container


def _container(store: Store, name: str) -> object:
    if "/" in name or name in ("", ".", ".."):
        return None
    try:
        with open(f"{store.home.containers}/{name}/config.json", encoding="utf-8") as file:
            found: object = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def describe(store: Store, image: Image) -> dict[str, object]:
    """What there is to know of an image. It is flat: how its build was cut into layers is no part of it."""
    from boxwright.app.lookup import names_of
    from boxwright.store.images import config_fields

    config = {
        name: value for name, value in config_fields(image.config).items() if value not in (None, "", (), [], False)
    }
    for name in ("env", "labels"):
        if name in config:
            config[name] = dict(config[name])
    return {
        "names": names_of(store, image),
        "identity": image.identity,
        "created": image.created,
        "size": image.size,
        "manifest": {"full": image.snapshot.manifest.full, "content": image.snapshot.manifest.content},
        "config": config,
    }
