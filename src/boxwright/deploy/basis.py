"""What a release was made from, kept with it: other numbers of replicas need neither files nor profiles then. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

from boxwright.deploy.desired import Facts, ImageFacts, desired_of
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.model.deployment import Desired
from boxwright.model.digest import digest_of
from boxwright.model.span import Span
from boxwright.model.stack import Stack


class Basis(NamedTuple):
    """A stack with the names of its secrets' values, and what was known beside it."""

    stack: Stack
    facts: Facts


def basis_text(basis: Basis) -> str:
    """As it is kept: without places in files, what is built, and how many machines there were."""
    containers = tuple(it._replace(where=Span("", 0), port_places=(), build=None) for it in basis.stack.containers)
    stack = basis.stack._replace(file="", containers=containers, secrets=(), notes=(), places=())
    images = {name: _lean(it) for name, it in basis.facts.images.items()}
    lean = Basis(stack, basis.facts._replace(images=images, hosts=1))
    return json.dumps({"shape": _shape(), "basis": lean}, sort_keys=True)


def _lean(image: ImageFacts) -> ImageFacts:
    return image._replace(config=image.config._replace(author="", labels=(), onbuild=(), databases=()))


def basis_from_text(text: str) -> Basis | None:
    """None where it is empty, or was written by a boxwright whose records have other fields."""
    import msgspec

    kept = json.loads(text or "{}")
    return msgspec.convert(kept["basis"], Basis) if kept.get("shape") == _shape() else None


def _shape() -> str:
    """Equal where records have the same fields in the same order: they are written without their names."""
    return digest_of("\n".join(_fields(Basis, set())).encode())


def _fields(kind: Any, seen: set[object]) -> Iterator[str]:  # noqa: ANN401 - any type
    if kind in seen:
        return
    seen.add(kind)
    hints = get_type_hints(kind) if hasattr(kind, "_fields") else {}
    yield from (f"{kind.__name__}.{name}: {hint}" for name, hint in hints.items())
    for inner in (*hints.values(), *get_args(kind)):
        yield from _fields(inner, seen)


def scaled(basis: Basis, replicas: Mapping[str, int], hosts: int) -> tuple[Desired, str]:
    """All that is to be there with these numbers, and those of earlier times for other containers; and its basis.

    Raises BoxwrightError as `desired_of` does.
    """
    facts = basis.facts._replace(replicas={**basis.facts.replicas, **replicas}, hosts=hosts)
    try:
        return desired_of(basis.stack, facts), basis_text(basis._replace(facts=facts))
    except DefinitionError as error:  # without the place: the file may be another one by now
        raise BoxwrightError(error.code, error.message, hint=error.hint) from error
