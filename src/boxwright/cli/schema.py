"""Print the JSON Schema of a kind of definition, for editors."""

from __future__ import annotations

import argparse

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `schema`."""
    kinds = ("package", "container", "manifest", "module", "autopilot")
    parser.add_argument("kind", choices=kinds, help="the kind of definition")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    import json

    from boxwright.frontends.container import schema as container
    from boxwright.frontends.manifest import schema as manifest
    from boxwright.frontends.package import schema as package
    from boxwright.frontends.stack import schema as stack

    schemas = {
        "package": package.json_schema,
        "container": container.json_schema,
        "manifest": manifest.json_schema,
        "module": manifest.module_schema,
        "autopilot": stack.json_schema,
    }
    say(json.dumps(schemas[options.kind](), indent=2))
    return 0
