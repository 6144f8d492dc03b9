"""Turn a recipe into a manifest, or a manifest into a recipe; what would be lost is said, with its line."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say
from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    from boxwright.app.manifest.converting import Converted


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `convert`."""
    add = parser.add_argument
    add("file", nargs="?", default=".", metavar="FILE", help="the definition, or its directory (default: .)")
    add("--to", choices=("manifest", "recipe", "dockerfile"), help="what it becomes (default: the other kind)")
    add("-o", "--output", metavar="FILE", help="write it there")
    add("--lossy", action="store_true", help="also where something is lost")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="manifests: a variable")
    add("--set-file", action="append", default=[], metavar="NAME=PATH", help="manifests: a variable from a file")
    add("--matrix", action="append", default=[], metavar="NAME=VALUE", help="manifests: the entry")
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="recipes: an argument")


def run(options: argparse.Namespace) -> int:
    """Convert it."""
    from boxwright.app.definitions import find_definition, is_container, is_manifest, is_package

    file = find_definition(options.file, None) if os.path.isdir(options.file) else options.file
    if not os.path.isfile(file):
        raise UsageError("definition.not-found", f"there is no file {file}")
    if is_container(file) or is_package(file):
        raise UsageError("usage.convert", f"{file}: recipes and manifests are converted")
    from_manifest = is_manifest(file)
    wanted = options.to or ("recipe" if from_manifest else "manifest")
    if (wanted == "manifest") == from_manifest:
        raise UsageError("usage.convert", f"{file} is a {'manifest' if from_manifest else 'recipe'} already")
    done = _of_manifest(options, file) if from_manifest else _of_recipe(options, file)
    losses = list(done.losses)
    text = done.text
    if wanted == "dockerfile" and text.startswith("# syntax=boxwright"):
        note(f"{file}: warning: PORT is not known to other builders: EXPOSE takes its place")
        text = "\n".join(
            f"EXPOSE {line[5:].rpartition(':')[2]}" if line.startswith("PORT ") else line
            for line in text.split("\n")[1:]
        )
    for name in done.names:
        note(f"{file}: warning: a recipe gives no names: build it with -t {name}")
    for loss in losses:
        note(f"{loss.where}: lost: {loss.what}")
    if losses and not options.lossy:
        raise BoxwrightError("convert.loss", f"{len(losses)} things would be lost", hint="--lossy converts the rest")
    if options.output:
        with open(options.output, "x", encoding="utf-8") as out:
            out.write(text)
        say(options.output)
    else:
        say(text.rstrip("\n"))
    return 0


def _of_recipe(options: argparse.Namespace, file: str) -> Converted:
    from boxwright.app.definitions import read_definition
    from boxwright.app.manifest.converting import PlainBases, to_manifest
    from boxwright.app.platforms import machine_platform
    from boxwright.cli.arguments import build_args
    from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph

    given = RecipeOptions(platform=machine_platform(), build_args=build_args(options.build_arg, os.environ))
    graph = build_graph(read_definition(file), file, resolver=PlainBases(), options=given)
    return to_manifest(graph, os.path.basename(os.path.dirname(os.path.abspath(file))).lower())


def _of_manifest(options: argparse.Namespace, file: str) -> Converted:
    from boxwright.app.configuration import configuration_for
    from boxwright.app.manifest.building import PackagesOf, open_world
    from boxwright.app.manifest.converting import PlainBases, to_recipe
    from boxwright.app.opening import open_store
    from boxwright.app.platforms import machine_platform
    from boxwright.app.request import BuildRequest
    from boxwright.cli.manifestbuild import manifest_request
    from boxwright.frontends.manifest.graph import ManifestOptions, build_manifest

    asked = manifest_request(options, file)
    directory = os.path.dirname(os.path.abspath(file))
    request, platform = BuildRequest(directory), machine_platform()
    configuration = configuration_for(directory, os.environ)
    with open_store(os.environ) as store:
        from boxwright.app.bases import BaseResolver

        real = BaseResolver(store, pull=False, configured=configuration.bases)
        world = open_world(file, request, store, os.environ, configuration, real)
        packages = PackagesOf(file, request, store, os.environ, configuration, lambda _: None)
        given = ManifestOptions(platform, asked.variables, asked.matrix)
        text = world.read(file, None)
        return to_recipe(build_manifest(text, file, world, PlainBases(), given, packages))
