"""The ways in which a manifest is found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.errors import DefinitionError
from boxwright.model.span import Span


def wrong(code: str, message: str, where: Span | None, *, hint: str = "") -> DefinitionError:
    """An error ``manifest.CODE`` at a place of the definition."""
    return DefinitionError(f"manifest.{code}", message, hint=hint, where=where)


@contextmanager
def of_manifests() -> Iterator[None]:
    """Errors of the readers that other definitions share are a manifest's here."""
    try:
        yield
    except DefinitionError as error:
        area, _, code = error.code.partition(".")
        if area in ("package", "container"):
            error.code = f"manifest.{code}"
        raise
