"""The one way in which a recipe is found wrong."""

from __future__ import annotations

from collections.abc import Iterable

from boxwright.errors import DefinitionError
from boxwright.model.span import Span


def wrong(message: str, where: Span, *, hint: str = "") -> DefinitionError:
    """An error `recipe.syntax`: the text doesn't say what an instruction needs."""
    return DefinitionError("recipe.syntax", message, hint=hint, where=where)


def not_yet(what: str, where: Span) -> DefinitionError:
    """An error `recipe.not-yet`: right, but not supported by this version."""
    return DefinitionError("recipe.not-yet", f"{what} is not supported yet", where=where)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that proposes the nearest of `known`, empty where none is near."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""
