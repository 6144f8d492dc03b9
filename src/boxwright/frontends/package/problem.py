"""The ways in which a package definition is found wrong."""

from __future__ import annotations

from collections.abc import Iterable

from boxwright.errors import DefinitionError
from boxwright.model.span import Span


def wrong(code: str, message: str, where: Span | None, *, hint: str = "") -> DefinitionError:
    """An error ``package.CODE`` at a place of the definition."""
    return DefinitionError(f"package.{code}", message, hint=hint, where=where)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that proposes the nearest of `known`; where none is near, it lists them all."""
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(name, names, n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else ""
