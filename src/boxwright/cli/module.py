"""Modules of manifests: search the repositories, add one to a manifest, begin one, publish one."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from boxwright.cli.console import say

if TYPE_CHECKING:
    from boxwright.app.manifest.world import DirectoryWorld
    from boxwright.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `module`."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    search = commands.add_parser("search", help="list modules")
    search.add_argument("text", nargs="?", default="", metavar="TEXT", help="in the name or the summary")
    search.add_argument("-v", "--verbose", action="store_true", help="with their parameters")
    add = commands.add_parser("add", help="add a module to a manifest, and pin it in boxwright.lock")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--version", default="", help="the first numbers, such as 1.2")
    places = "a directory, a git repository or image:NAME"
    add.add_argument("--from", dest="origin", default="", metavar="PLACE", help=places)
    publish = commands.add_parser("publish", help="copy a module to a repository")
    publish.add_argument("module", metavar="DIR", help="the module's directory")
    publish.add_argument("repository", metavar="REPOSITORY", help=places)
    init = commands.add_parser("init", help="begin a module")
    init.add_argument("name", metavar="NAME", help="CATEGORY/NAME")
    for one in (search, add, init):
        one.add_argument("-C", "--directory", default=".", metavar="DIR", help="where the definition is (default: .)")
    add.add_argument("-f", "--file", help="the manifest")


def run(options: argparse.Namespace) -> int:
    """Do it."""
    from boxwright.app.manifest import publishing
    from boxwright.app.opening import open_store

    if options.command == "init":
        say(publishing.begin(options.name, os.path.join(options.directory, "modules")))
        return 0
    if options.command == "publish":
        say(publishing.publish(options.module, options.repository, os.environ))
        return 0
    with open_store(os.environ) as store:
        world = _world(options, store)
        if options.command == "add":
            from boxwright.app.definitions import find_definition

            manifest = find_definition(options.directory, options.file)
            found = publishing.add(world, manifest, options.name, options.version, options.origin)
            say(f"{found.name} {found.version}  {found.place}")
            return 0
        for found in publishing.search(world, options.directory, options.text):
            say(f"{found.name:<24} {found.version:<8} {found.summary}")
            if options.verbose:
                for name, parameter in publishing.parameters(found).items():
                    default = "needed" if parameter.default is None else f"default {parameter.default!r}"
                    say(f"    {name}: {parameter.type}, {default}. {parameter.summary}")
    return 0


def _world(options: argparse.Namespace, store: Store) -> DirectoryWorld:
    from boxwright.app.bases import BaseResolver
    from boxwright.app.configuration import configuration_for
    from boxwright.app.manifest.building import open_world
    from boxwright.app.request import BuildRequest

    configuration = configuration_for(options.directory, os.environ)
    request = BuildRequest(options.directory)
    resolver = BaseResolver(store, pull=False)
    file = os.path.join(options.directory, "manifest.yaml")
    return open_world(file, request, store, os.environ, configuration, resolver)
