"""Plans: for each step what is done with it and why."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from boxwright.model.digest import Digest


class Action(Enum):
    """What is done with a step."""

    REUSE = "reuse"
    FETCH = "fetch"
    RUN = "run"
    UNUSED = "unused"


class Decision(NamedTuple):
    """`key` is None while it depends on the output of a step that has not run ("decided when X is built")."""

    action: Action
    reason: str
    key: Digest | None


class Plan(NamedTuple):
    """One decision for each node of the graph, in its order."""

    decisions: tuple[Decision, ...]
