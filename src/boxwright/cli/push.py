"""Upload an image or a package to the configured repositories: boxwright push NAME [REPOSITORY...]."""

from __future__ import annotations

import argparse

from boxwright.app.names import image_name
from boxwright.app.publishing import ToPublish, of_record, publish, publish_image
from boxwright.app.repositories import Opened
from boxwright.cli.console import human_size, say
from boxwright.cli.sharingoptions import repositories
from boxwright.errors import BoxwrightError
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `push`."""
    parser.add_argument("name", metavar="NAME", help="an image, or a package by name or HASH")
    parser.add_argument(
        "places", nargs="*", metavar="REPOSITORY", help="configured repositories; without one, all that can be written"
    )


def run(options: argparse.Namespace) -> int:
    """Upload it to each."""
    with repositories(options.places) as (store, found):
        targets = [it for it in found if it.configured.upload is not None or options.places] or found
        for to in targets:
            _push(options.name, to, store)
    return 0


def _push(name: str, to: Opened, store: Store) -> None:
    image = Images(store).find(_tag(name)) or Images(store).find(name)
    if image is not None:
        names = [_tag(name)] if Images(store).find(_tag(name)) else []
        sent = publish_image(to, image, names, store)
        say(f"{name}  {image.identity}  {human_size(sent)} sent to {to.configured.name}")
        return
    packages = Packages(store)
    record = packages.find(name)
    published = of_record(record, packages)
    if published is None:
        raise BoxwrightError("store.gone", f"the archive of {name} is no longer here", hint="build it again")
    for kept in publish(to, ToPublish((published,))):
        say(f"{kept}: another build of it is at {to.configured.name}, and stays")
    say(f"{record.name}  {record.definition}  sent to {to.configured.name}")


def _tag(name: str) -> str:
    try:
        return image_name(name)
    except BoxwrightError:
        return name
