"""Typed progress events: what the scheduler says and the displays print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from boxwright.model.plan import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan was made or, with a step done, made again."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The node at this position began to run."""

    position: int


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that a step wrote."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The node's snapshot is there. `seconds` it took; `shared` when another process did it meanwhile."""

    position: int
    seconds: float
    shared: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The node failed after `seconds`."""

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Message:
    """Something a person should read: `level` is ``note`` or ``warning``."""

    level: str
    text: str


Event: TypeAlias = Planned | StepStarted | StepOutput | StepFinished | StepFailed | Message
