"""The ARGs of a recipe: those before the first FROM, and what the user gave (the reference, ARG, "Scope")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from boxwright.frontends.recipe.arguments import quoted_words
from boxwright.frontends.recipe.options import RecipeOptions
from boxwright.frontends.recipe.predefined import PROXIES, platform_args
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.frontends.recipe.words import expand


class Scope(NamedTuple):
    """`globals` are what FROM sees and what a stage may declare again; `given` are the user's build arguments."""

    globals: Mapping[str, str]
    given: Mapping[str, str]
    escape: str


class Argument(NamedTuple):
    """One ARG. `hidden` says that no key may see its value: a proxy that the user gave."""

    name: str
    value: str | None
    hidden: bool


def global_scope(instructions: Iterable[Instruction], options: RecipeOptions, escape: str) -> Scope:
    """The scope that the ARGs before the first FROM make."""
    automatic = platform_args(options.platform)
    values = {name: options.build_args.get(name, value) for name, value in automatic.items()}
    scope = Scope(values, options.build_args, escape)
    for instruction in instructions:
        for argument in declared(instruction, values, scope):
            if argument.value is not None:
                values[argument.name] = argument.value
    return scope


def declared(instruction: Instruction, variables: Mapping[str, str], scope: Scope) -> Iterable[Argument]:
    """What an ARG declares, one by one. Each sees what `variables` holds when it is asked for.

    A value that the user gave comes before the default that stands there, and that before the global scope's.
    """
    for word in quoted_words(instruction.rest, scope.escape):
        name, equals, default = word.partition("=")
        name = expand(name, variables, instruction.span, scope.escape)
        if not name:
            raise wrong("ARG: a name is missing", instruction.span)
        if name in scope.given:
            yield Argument(name, scope.given[name], name in PROXIES)
        elif equals:
            yield Argument(name, expand(default, variables, instruction.span, scope.escape), hidden=False)
        else:
            yield Argument(name, scope.globals.get(name), hidden=False)
