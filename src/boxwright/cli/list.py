"""List what is inside an image: every package with version, identity, licence, source and patches."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import human_size, say

MOST_NAMED = 20


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
        packages = [component._asdict() for component in inventory.components]
        say(json.dumps({"packages": packages, "steps": steps, "unowned": inventory.unowned()}, indent=2))
        return 0
    if options.files or options.unowned:
        unowned = set(inventory.unowned())
        for path, owner in inventory.files.items():
            if options.files:
                say(f"/{clean(path)}  {clean(said_owner(owner))}")
            elif path in unowned:
                say(f"/{clean(path)}")
        return 0
    for component in inventory.components:
        identity = component.identity[7:19] or "-"
        words = [clean(component.name), identity, clean(component.licence) or "-", human_size(component.size)]
        say("  ".join((*words, clean(component.source))).rstrip())
        for name, reason in component.patches:
            say(f"    patch {clean(name)}: {clean(reason)}")
    for maker, paths in inventory.by_steps().items():
        say(f"{len(paths)} files were made by: {clean(maker.title)}")
    _print_unowned(inventory.unowned())
    return 0


def _print_unowned(paths: list[str]) -> None:
    from boxwright.cli.steptext import clean

    if paths:
        say(f"{len(paths)} files have no owner:")
        for path in paths[:MOST_NAMED]:
            say(f"    /{clean(path)}")
        if len(paths) > MOST_NAMED:
            say("    ... (--unowned lists them all)")
