"""Print the graph of a build: what stands on what, and which validations gate the image."""

from __future__ import annotations

import argparse
import os

from boxwright.app.drawing import Drawn
from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `graph`: those that decide what is built."""
    from boxwright.cli import build

    build.configure(parser)
    parser.add_argument("--format", choices=("text", "dot", "mermaid", "svg"), default="text")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from boxwright.app import drawing
    from boxwright.cli.steptext import clean

    drawn = _drawn(options)
    if options.format == "text":
        for line in drawing.as_text(drawn):
            say(clean(line))
    else:
        say({"dot": drawing.as_dot, "mermaid": drawing.as_mermaid, "svg": drawing.as_svg}[options.format](drawn))
    return 0


def _drawn(options: argparse.Namespace) -> Drawn:
    from boxwright.app.build import prepare
    from boxwright.app.definitions import find_definition, is_container, is_manifest, is_package
    from boxwright.app.opening import open_store
    from boxwright.cli.build import request_of
    from boxwright.errors import UsageError

    plain = options.file != "-" and os.path.isdir(options.directory)
    file = find_definition(options.directory, options.file) if plain else ""
    request = request_of(options)
    with open_store(os.environ) as store:
        if file and is_manifest(file):
            from boxwright.app.manifest.building import prepare_manifest
            from boxwright.cli.manifestbuild import manifest_request

            planned = prepare_manifest(request, manifest_request(options, file), store, os.environ, lambda _: None)
            entries = planned.manifest.entries
            results = [(", ".join(it.names) or it.name, (it.target, *it.gates)) for it in entries]
            return Drawn(planned.manifest.graph, results)
        if file and (is_container(file) or is_package(file)):
            hint = "of recipes and manifests"
            raise UsageError("usage.graph", f"{file}: graphs of packages are not drawn", hint=hint)
        graph = prepare(request, store, os.environ).graph
    names = ", ".join(request.tags)
    return Drawn(graph, [(names, (graph.target, *(gate.node for gate in graph.gates)))])
