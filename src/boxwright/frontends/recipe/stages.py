"""The stages of a recipe, and which of them a target needs (the reference, FROM, and "Multi-stage builds")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.keywords import flag_value, flag_values
from boxwright.frontends.recipe.options import RecipeOptions, context_name
from boxwright.frontends.recipe.predefined import same_platform
from boxwright.frontends.recipe.problem import nearest, wrong
from boxwright.frontends.recipe.scope import Scope, global_scope
from boxwright.frontends.recipe.syntax import Instruction, Recipe
from boxwright.frontends.recipe.words import expand
from boxwright.model.span import Span

VALIDATE = "validate"
_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_FROM_OPTION = re.compile(r"(?:^|,)\s*\"?from=([^,\"]*)")


class Stage(NamedTuple):
    """`parent` is the earlier stage that it starts from, None where `base` names something outside."""

    number: int
    name: str
    base: str
    parent: int | None
    start: Instruction
    instructions: tuple[Instruction, ...]

    @property
    def shown(self) -> str:
        """Its name, or its number."""
        return self.name or f"stage-{self.number}"

    @property
    def is_validation(self) -> bool:
        """Whether the comment line directly above its FROM is ``# validate``."""
        return self.start.above[-1:] == (VALIDATE,)


class Stages(NamedTuple):
    """All stages in order, and the scope around them."""

    stages: tuple[Stage, ...]
    scope: Scope
    options: RecipeOptions

    def find(self, name: str, where: Span) -> int | None:
        """The stage that ``--from`` means by name or number; None where it means something outside.

        Raises DefinitionError `recipe.unknown-stage` for a number that no stage has.
        """
        if self.options.replaces(name):
            return self._alias(name, where)
        if name.isascii() and name.isdigit():
            index = int(name) if len(name) < 9 else len(self.stages)
            if index < len(self.stages):
                return index
            message = f"there is no stage {name}: there are {len(self.stages)}, counted from 0"
            raise DefinitionError("recipe.unknown-stage", message, where=where)
        wanted = name.lower()
        return next((stage.number for stage in reversed(self.stages) if stage.name == wanted), None)

    def validations(self, names: Iterable[str], file: str, *, marked: bool) -> tuple[int, ...]:
        """The stages that gate the image: those named, and those `marked` in the recipe; in their order.

        Raises DefinitionError `recipe.unknown-target`.
        """
        found = {self.target(name, file) for name in names}
        return tuple(sorted(found | {stage.number for stage in self.stages if marked and stage.is_validation}))

    def _alias(self, name: str, where: Span) -> int | None:
        """The stage that a build context's name stands for, None where it stands for something outside."""
        stage = self.options.aliases.get(context_name(name))
        return None if stage is None else aliased(name, stage, {it.name: it.number for it in self.stages}, where)

    def target(self, name: str, file: str) -> int:
        """The stage that ``--target`` means, without one the last that is no validation.

        Raises DefinitionError `recipe.unknown-target`.
        """
        if not name:
            built = [stage.number for stage in self.stages if not stage.is_validation]
            return built[-1] if built else len(self.stages) - 1
        wanted = name.lower()
        found = next((stage.number for stage in reversed(self.stages) if stage.name == wanted), None)
        if found is None and name.isascii() and name.isdigit() and len(name) < 9 and int(name) < len(self.stages):
            found = int(name)
        if found is None:
            hint = nearest(wanted, [stage.name for stage in self.stages if stage.name])
            message = f"there is no stage {name!r}"
            raise DefinitionError("recipe.unknown-target", message, hint=hint, where=Span(file, 1, 1, 1))
        return found


def find_stages(recipe: Recipe, file: str, options: RecipeOptions) -> Stages:
    """Cut a recipe into stages. Raises DefinitionError `recipe.no-from` where there is none."""
    starts = [number for number, item in enumerate(recipe.instructions) if item.keyword == "FROM"]
    before = recipe.instructions[: starts[0]] if starts else recipe.instructions
    early = next((item for item in before if item.keyword != "ARG"), None)
    if early is not None:
        message = f"{early.keyword} stands before the first FROM"
        hint = "only ARG may stand there; begin with FROM BASE"
        raise DefinitionError("recipe.no-from", message, hint=hint, where=early.span)
    if not starts:
        where = Span(file, 1, 1, 1)
        raise DefinitionError("recipe.no-from", "there is no FROM", hint="begin with FROM BASE", where=where)
    scope = global_scope(before, options, recipe.escape)
    stages: list[Stage] = []
    by_name: dict[str, int] = {}
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(recipe.instructions)], strict=True)):
        stage = _stage(index, recipe.instructions[start:end], scope, by_name, options)
        stages.append(stage)
        if stage.name:
            by_name[stage.name] = index
    return Stages(tuple(stages), scope, options)


def _stage(
    index: int, instructions: Sequence[Instruction], scope: Scope, by_name: dict[str, int], options: RecipeOptions
) -> Stage:
    start = instructions[0]
    words = start.rest.split()
    if len(words) not in {1, 3} or (len(words) == 3 and words[1].lower() != "as"):
        raise wrong("FROM takes a base and, if wanted, AS and a name", start.span, hint="FROM BASE [AS NAME]")
    base = expand(words[0], scope.globals, start.span, scope.escape)
    if not base:
        hint = "an ARG that FROM uses stands before the first FROM and needs a default or --build-arg"
        raise wrong(f"{words[0]} is empty", start.span, hint=hint)
    name = words[2].lower() if len(words) == 3 else ""
    if name and _NAME.fullmatch(name) is None:
        hint = "a letter, then letters, digits, '-', '_' and '.'"
        raise wrong(f"{words[2]!r} is no name for a stage", start.span, hint=hint)
    platform = expand(flag_value(start.flags, "platform") or "", scope.globals, start.span, scope.escape)
    if platform and not same_platform(platform, options.platform):
        message = f"this build is for {options.platform}, not {platform}"
        hint = "leave --platform out, or build on a machine of that platform"
        raise DefinitionError("recipe.platform", message, hint=hint, where=start.span)
    if name and options.replaces(name):
        return Stage(index, name, name, _parent(name, by_name, options, start.span), start, ())
    return Stage(index, name, base, _parent(base, by_name, options, start.span), start, tuple(instructions[1:]))


def _parent(base: str, by_name: Mapping[str, int], options: RecipeOptions, where: Span) -> int | None:
    """The earlier stage that a base's name means."""
    if not options.replaces(base):
        return by_name.get(base.lower())
    stage = options.aliases.get(context_name(base))
    return None if stage is None else aliased(base, stage, by_name, where)


def aliased(name: str, stage: str, by_name: Mapping[str, int], where: Span) -> int:
    """The stage that ``--build-context NAME=target:STAGE`` means. Raises DefinitionError `recipe.unknown-stage`."""
    if stage.lower() not in by_name:
        message = f"--build-context {name}=target:{stage}: there is no such stage before this line"
        raise DefinitionError("recipe.unknown-stage", message, hint=nearest(stage, by_name), where=where)
    return by_name[stage.lower()]


def references(instruction: Instruction) -> Iterable[str]:
    """The names that ``COPY --from`` and ``RUN --mount from=`` take something from."""
    if instruction.keyword == "COPY":
        name = flag_value(instruction.flags, "from")
        return (name,) if name else ()
    if instruction.keyword == "RUN" and instruction.flags:
        return tuple(
            match[1] for mount in flag_values(instruction.flags, "mount") for match in _FROM_OPTION.finditer(mount)
        )
    return ()


def needed(stages: Stages, target: int) -> list[int]:
    """The stages that `target` needs, itself last, each behind those it needs and otherwise as they stand.

    Raises DefinitionError `recipe.circular` where a stage needs itself.
    """
    edges: dict[int, list[int]] = {}
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index not in edges:
            edges[index] = _needs(stages, stages.stages[index])
            waiting.extend(edges[index])
    order: list[int] = []
    for index in sorted(edges):
        _visit(stages, index, edges, order)
    return order


def _needs(stages: Stages, stage: Stage) -> list[int]:
    found = set() if stage.parent is None else {stage.parent}
    for instruction in stage.instructions:
        for name in references(instruction):
            index = stages.find(name, instruction.span)
            if index is not None:
                found.add(index)
    return sorted(found)


def _visit(stages: Stages, start: int, edges: dict[int, list[int]], order: list[int]) -> None:
    """Add `start` behind all that it needs; without recursion, as a recipe may have thousands of stages."""
    done = set(order)
    if start in done:
        return
    path = [start]
    on_path = {start}
    remaining = {start: iter(edges[start])}
    while path:
        following = next((index for index in remaining[path[-1]] if index not in done), None)
        if following is None:
            finished = path.pop()
            on_path.discard(finished)
            done.add(finished)
            order.append(finished)
        elif following in on_path:
            raise circular([stages.stages[index] for index in [*path[path.index(following) :], following]])
        else:
            path.append(following)
            on_path.add(following)
            remaining[following] = iter(edges[following])


def circular(cycle: Sequence[Stage]) -> DefinitionError:
    """The error for stages that need each other."""
    shown = " -> ".join(stage.shown for stage in cycle)
    return DefinitionError("recipe.circular", f"stages need each other: {shown}", where=cycle[0].start.span)
