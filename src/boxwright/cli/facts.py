"""Print what is found out about an image in a container of it, or about this machine."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `facts`."""
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="an image, or a base such as debian:bookworm")
    add("--host", action="store_true", help="of this machine")
    add("--mirror", help="the package mirror for base systems")
    add("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Print them."""
    from boxwright.app.manifest.facts import host_facts
    from boxwright.errors import UsageError

    if bool(options.image) == options.host:
        raise UsageError("usage.facts", "an image, or --host", hint="boxwright facts debian:bookworm")
    facts = host_facts() if options.host else _of_image(options)
    if options.json:
        import json

        say(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            say(f"{name:<16}{value}")
    return 0


def _of_image(options: argparse.Namespace) -> dict[str, object]:
    from boxwright.app.bases import BaseResolver
    from boxwright.app.configuration import configuration_for
    from boxwright.app.manifest.building import open_world
    from boxwright.app.opening import open_store
    from boxwright.app.request import BuildRequest
    from boxwright.model.span import Span

    request = BuildRequest(".", mirror=options.mirror)
    configuration = configuration_for(".", os.environ)
    with open_store(os.environ) as store:
        resolver = BaseResolver(store, pull=False, configured=configuration.bases)
        world = open_world("-", request, store, os.environ, configuration, resolver)
        return dict(world.facts(options.image, Span("-", 1)))
