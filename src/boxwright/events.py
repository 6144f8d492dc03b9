"""Typed progress events: what the scheduler says and the displays print."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from boxwright.model.plan import Plan


class Planned(NamedTuple):
    """The plan was made or, with a step done, made again."""

    plan: Plan


class StepStarted(NamedTuple):
    """The node at this position began to run."""

    position: int


class StepOutput(NamedTuple):
    """Bytes that a step wrote."""

    position: int
    data: bytes


class StepPlaced(NamedTuple):
    """The node was run by a `server`, or its result was `found` there."""

    position: int
    server: str
    found: bool


class StepFinished(NamedTuple):
    """The node's snapshot is there. `seconds` it took; `shared` when another process did it meanwhile."""

    position: int
    seconds: float
    shared: bool = False


class StepFailed(NamedTuple):
    """The node failed after `seconds`, or was `stopped` since another one had failed or somebody interrupted."""

    position: int
    seconds: float
    stopped: bool = False


class Message(NamedTuple):
    """Something a person should read: `level` is ``note`` or ``warning``."""

    level: str
    text: str


Event: TypeAlias = Planned | StepStarted | StepOutput | StepPlaced | StepFinished | StepFailed | Message
