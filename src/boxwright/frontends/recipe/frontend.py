"""The recipe frontend: text becomes a graph (docs/dockerfile.md says what of the reference is there)."""

from __future__ import annotations

from collections.abc import Iterable

from boxwright.frontends.recipe.arguments import quoted_words
from boxwright.frontends.recipe.build import GraphBuilder
from boxwright.frontends.recipe.options import RecipeOptions
from boxwright.frontends.recipe.parser import parse
from boxwright.frontends.recipe.predefined import PREDEFINED, proxy_args
from boxwright.frontends.recipe.stages import find_stages
from boxwright.model.graph import Graph
from boxwright.model.image import Database
from boxwright.ports import Resolver

__all__ = ["RecipeOptions", "build_graph", "proxy_args", "server_graph", "unused_build_args"]


def build_graph(text: str, file: str, *, resolver: Resolver, options: RecipeOptions) -> Graph:
    """The graph of the recipe's target; stages that it doesn't need are not in it.

    `file` names the text in errors, and decides whether PORT and DBASE are taken. Raises DefinitionError with the
    place, and what `resolver` raises.
    """
    recipe = parse(text, file)
    stages = find_stages(recipe, file, options)
    gates = stages.validations(options.validate, file, marked=options.marked)
    return GraphBuilder(stages, resolver, options).graph(stages.target(options.target, file), gates)


def server_graph(database: Database, resolver: Resolver, platform: str, network: str) -> Graph:
    """The graph of a database server's image, of the recipe that comes with the program."""
    from boxwright.frontends.recipe.dbase import server_of

    server, suite = server_of(database)
    text, file = resolver.recipe(server.recipe)
    outer = "default" if network == "none" else network
    options = RecipeOptions(build_args={"SUITE": suite}, platform=platform, network=outer)
    return build_graph(text, file, resolver=resolver, options=options)


def unused_build_args(text: str, file: str, build_args: Iterable[str]) -> tuple[str, ...]:
    """The names among `build_args` that no ARG of the recipe declares and that are not predefined."""
    recipe = parse(text, file)
    declared = {
        word.partition("=")[0]
        for instruction in recipe.instructions
        if instruction.keyword == "ARG"
        for word in quoted_words(instruction.rest, recipe.escape)
    }
    return tuple(name for name in build_args if name not in declared and name not in PREDEFINED)
