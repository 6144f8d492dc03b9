"""What the rules look at: the recipe cut into stages, leniently, since what is checked need not be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.arguments import pairs, quoted_words
from boxwright.frontends.recipe.options import RecipeOptions
from boxwright.frontends.recipe.scope import global_scope
from boxwright.frontends.recipe.stages import VALIDATE
from boxwright.frontends.recipe.syntax import Instruction, Recipe
from boxwright.frontends.recipe.words import expand

BaseNames = Callable[[str], frozenset[str] | None]
"""For a base the names in its environment, None where only a registry knows."""


class StageFacts:
    """One stage: `base` with the defaults of the global ARGs, empty where it can't be known."""

    def __init__(self, number: int, start: Instruction, base: str) -> None:
        self.number = number
        self.start = start
        self.base = base
        self.instructions: list[Instruction] = []
        words = start.rest.split()
        self.written_base = words[0] if words else ""
        self.written_as = words[1] if len(words) == 3 else ""
        self.written_name = words[2] if len(words) == 3 else ""
        self.parent: StageFacts | None = None

    @property
    def name(self) -> str:
        """Its name as it is compared."""
        return self.written_name.lower()

    @property
    def is_validation(self) -> bool:
        """Whether the recipe marks it."""
        return self.start.above[-1:] == (VALIDATE,)

    def ancestors(self) -> list[StageFacts]:
        """The stages that it starts from, itself first."""
        found: list[StageFacts] = []
        stage: StageFacts | None = self
        while stage is not None:
            found.append(stage)
            stage = stage.parent
        return found


class Facts:
    """A recipe as the rules see it. `ignored` says whether the context leaves a path out."""

    def __init__(
        self, recipe: Recipe, file: str, base_names: BaseNames, ignored: Callable[[str], bool] | None = None
    ) -> None:
        self.recipe = recipe
        self.file = file
        self.base_names = base_names
        self.ignored = ignored
        self.before: list[Instruction] = []
        self.stages: list[StageFacts] = []
        for instruction in recipe.instructions:
            if instruction.keyword == "FROM":
                self._begin(instruction)
            elif self.stages:
                self.stages[-1].instructions.append(instruction)
            else:
                self.before.append(instruction)

    @cached_property
    def globals(self) -> Mapping[str, str]:
        """The ARGs before the first FROM with their defaults, and the automatic ones."""
        try:
            args = [item for item in self.before if item.keyword == "ARG"]
            return global_scope(args, RecipeOptions(), self.recipe.escape).globals
        except DefinitionError:
            return {}

    @cached_property
    def declared_globally(self) -> frozenset[str]:
        """The names of the ARGs before the first FROM."""
        return frozenset(name for item in self.before if item.keyword == "ARG" for name in arg_names(item, self))

    def _begin(self, start: Instruction) -> None:
        words = start.rest.split()
        try:
            base = expand(words[0], self.globals, start.span, self.recipe.escape)
        except (DefinitionError, IndexError):
            base = ""
        stage = StageFacts(len(self.stages), start, base)
        stage.parent = next(
            (other for other in reversed(self.stages) if other.name and other.name == base.lower()), None
        )
        self.stages.append(stage)


def arg_names(instruction: Instruction, facts: Facts) -> list[str]:
    """The names that an ARG declares."""
    return [word.partition("=")[0] for word in quoted_words(instruction.rest, facts.recipe.escape)]


def pair_names(instruction: Instruction, facts: Facts) -> list[str]:
    """The names that an ENV or LABEL sets; none where it is wrong."""
    try:
        found = pairs(instruction.keyword, instruction.rest, facts.recipe.escape, instruction.span)
    except DefinitionError:
        return []
    return [name.strip("\"'") for name, _ in found]
