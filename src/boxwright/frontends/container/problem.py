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
def of_containers(file: str) -> Iterator[None]:
    """What the readers that package definitions share find wrong in `file` is a container definition's error."""
    try:
        yield
    except DefinitionError as error:
        here = error.where is None or error.where.file == file
        if here and error.code.startswith("package."):
            error.code = f"container.{error.code.removeprefix('package.')}"
        raise
