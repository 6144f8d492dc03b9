"""List images."""

from __future__ import annotations

import argparse
import os

from boxwright.app.opening import open_store
from boxwright.cli.console import human_size, say
from boxwright.model.digest import short
from boxwright.model.image import Image


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `images`."""
    add = parser.add_argument
    add("-q", "--quiet", action="store_true", help="print digests alone")
    add("--names", action="store_true", help="print names alone")
    add("--json", action="store_true", help="print a JSON array")


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    from boxwright.store.images import Images

    with open_store(os.environ) as store:
        listing = Images(store).listing()
    if options.json:
        import json

        say(json.dumps([_fields(name, image) for name, image in listing], indent=2))
    elif options.names:
        for name, _ in listing:
            if name:
                say(name)
    elif options.quiet:
        for identity in dict.fromkeys(image.identity for _, image in listing):
            say(identity)
    else:
        _table(listing)
    return 0


def _table(listing: list[tuple[str, Image]]) -> None:
    rows = [("NAME", "DIGEST", "SIZE", "CREATED")]
    rows += [
        (name or "-", short(image.identity), human_size(image.size), day(image.created)) for name, image in listing
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, digest, size, created in rows:
        say(f"{name:<{widths[0]}}  {digest:<{widths[1]}}  {size:>{widths[2]}}  {created}")


def day(seconds: int) -> str:
    """A time as people read it."""
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def _fields(name: str, image: Image) -> dict[str, object]:
    return {"name": name, "digest": image.identity, "size": image.size, "created": image.created}
