"""The ways in which a stack's definition is found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.errors import DefinitionError
from boxwright.model.span import Span


def wrong(code: str, message: str, where: Span | None, *, hint: str = "") -> DefinitionError:
    """An error ``stack.CODE`` at a place of the definition."""
    return DefinitionError(f"stack.{code}", message, hint=hint, where=where)


@contextmanager
def of_stacks() -> Iterator[None]:
    """What the readers that definitions share find wrong is a stack's error."""
    try:
        yield
    except DefinitionError as error:
        if error.code.startswith("package."):
            error.code = f"stack.{error.code.removeprefix('package.')}"
        raise
