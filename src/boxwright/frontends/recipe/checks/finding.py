"""Rules and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from boxwright.frontends.recipe.checks.facts import Facts
from boxwright.model.span import Span


class Found(NamedTuple):
    """What a rule says about one place; `hint` says what to write instead. `is_error`: the build would fail."""

    span: Span
    message: str
    hint: str = ""
    is_error: bool = False


class Finding(NamedTuple):
    """The same with the rule's name."""

    rule: str
    severity: str
    message: str
    span: Span
    hint: str = ""


class Rule(NamedTuple):
    """A rule: a pure function from the facts of a recipe to what it finds. Those with `asked` must be asked for."""

    name: str
    summary: str
    find: Callable[[Facts], Iterable[Found]]
    asked: bool = False
