"""The ways in which a container definition is found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.errors import DefinitionError
from boxwright.model.span import Span


def wrong(code: str, message: str, where: Span | None, *, hint: str = "") -> DefinitionError:
    """An error ``container.CODE`` at a place of the definition."""
    return DefinitionError(f"container.{code}", message, hint=hint, where=where)


@contextmanager
def of_containers() -> Iterator[None]:
    """Errors of the readers that package definitions share are a container definition's here."""
    try:
        yield
    except DefinitionError as error:
        if error.code.startswith("package."):
            error.code = f"container.{error.code.removeprefix('package.')}"
        raise
