"""The half of `push` and `pull` that is about the configured repositories."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from boxwright.app.names import image_name
from boxwright.app.privileges import ensure_privileges
from boxwright.app.publishing import ToPublish, of_record, publish, publish_image, publish_made
from boxwright.app.pulling import pull as bring
from boxwright.app.repositories import Opened
from boxwright.app.repositoryconfiguration import binaries_for
from boxwright.cli.console import human_size, say, warn
from boxwright.cli.sharingoptions import repositories
from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def writable(directory: str) -> bool:
    """Whether some repository is configured there that can be written."""
    return any(it.upload is not None for it in binaries_for(directory, os.environ))


def configured(names: Sequence[str]) -> bool:
    """Whether these are names of configured repositories; without a name, whether there is one."""
    known = {it.name for it in binaries_for(os.getcwd(), os.environ)}
    return bool(known) and known.issuperset(names)


def push(options: argparse.Namespace) -> int:
    """Upload an image or a package to each repository."""
    with repositories(options.places) as (store, found):
        targets = [it for it in found if it.configured.upload is not None or options.places] or found
        for to in targets:
            _push(options.image, to, store)
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
    publish_made(to, Digest(record.record["toolchain"]), store)
    for kept in publish(to, ToPublish((published,))):
        say(f"{kept}: another build of it is at {to.configured.name}, and stays")
    say(f"{record.name}  {record.definition}  sent to {to.configured.name}")


def _tag(name: str) -> str:
    try:
        return image_name(name)
    except BoxwrightError:
        return name


def pull(options: argparse.Namespace) -> int:
    """Bring each from the first repository that has it."""
    with repositories(options.repositories) as (store, found):
        ensure_privileges()
        for name in options.names:
            got = bring(found, name, store, warn)
            received = human_size(got.received)
            say(f"{got.name}  {got.identity}  {human_size(got.size)}  {received} received from {got.origin}")
    return 0
