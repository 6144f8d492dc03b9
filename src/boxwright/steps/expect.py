"""What every kind of step asks of its inputs."""

from __future__ import annotations

from typing import TypeVar

from boxwright.model.image import Snapshot
from boxwright.ports import StepInputs

T = TypeVar("T")


def expect(value: object, kind: type[T]) -> T:
    """`value`, which the registry of kinds says is a `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} is not {kind.__name__}")
    return value


def parent_of(inputs: StepInputs) -> Snapshot:
    """The snapshot that a running step starts from."""
    return expect(inputs.snapshots[0], Snapshot)
