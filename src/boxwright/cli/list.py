"""List what is inside an image: every package with version, identity, licence, source and patches."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxwright.cli.console import human_size, say

if TYPE_CHECKING:
    from boxwright.app.inventory import Component

MOST_NAMED = 20
WIDEST = 40
"""A column that is wider doesn't push the others away."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `list`."""
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an image's name, or the beginning of its digest")
    add("--files", action="store_true", help="every file with its owner")
    add("--unowned", action="store_true", help="every file that no package has and no step made")
    add("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from boxwright.app.inventory import inventory_of
    from boxwright.app.lookup import find_image
    from boxwright.app.opening import open_store
    from boxwright.app.whyfile import said_owner
    from boxwright.cli.steptext import clean

    with open_store(os.environ) as store:
        inventory = inventory_of(find_image(store, options.image), store)
    if options.json:
        import json

        steps = {maker.title: paths for maker, paths in inventory.by_steps().items()}
        changed = {maker.title: paths for maker, paths in inventory.changed_by_steps().items()}
        packages = [component._asdict() for component in inventory.components]
        data = {"packages": packages, "steps": steps, "changed": changed, "unowned": inventory.unowned()}
        say(json.dumps(data, indent=2))
        return 0
    if options.files or options.unowned:
        unowned = set(inventory.unowned())
        for path, owner in inventory.files.items():
            if options.files:
                say(f"/{clean(path)}  {clean(said_owner(owner))}")
            elif path in unowned:
                say(f"/{clean(path)}")
        return 0
    _print_packages(inventory.components)
    for maker, paths in inventory.by_steps().items():
        say(f"{_files(len(paths))} made by: {clean(maker.title)}")
    for maker, paths in inventory.changed_by_steps().items():
        say(f"{_files(len(paths))} of packages changed by: {clean(maker.title)}")
    _print_unowned(inventory.unowned())
    return 0


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _print_packages(components: Sequence[Component]) -> None:
    """A table, with the patches of each package below it."""
    from boxwright.cli.steptext import clean

    rows = [("PACKAGE", "HASH", "LICENCE", "SIZE", "SOURCE")]
    rows += [
        (
            clean(component.name),
            component.identity[7:19] or "-",
            clean(component.licence) or "-",
            human_size(component.size),
            clean(component.source),
        )
        for component in components
    ]
    widths = [min(max(len(row[column]) for row in rows), WIDEST) for column in range(4)]
    patches = [[], *([(clean(name), clean(why)) for name, why in one.patches] for one in components)]
    for row, below in zip(rows if components else (), patches, strict=False):
        start = "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=False))
        say(f"{start}  {row[4]}".rstrip())
        for name, reason in below:
            say(f"    patch {name}: {reason}")


def _print_unowned(paths: list[str]) -> None:
    from boxwright.cli.steptext import clean

    if paths:
        say(f"{_files(len(paths))} without an owner:")
        for path in paths[:MOST_NAMED]:
            say(f"    /{clean(path)}")
        if len(paths) > MOST_NAMED:
            say("    ... (--unowned lists them all)")
