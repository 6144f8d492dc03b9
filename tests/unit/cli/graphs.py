"""Small graphs for displays."""

from __future__ import annotations

from boxwright.model.digest import digest_of
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig
from boxwright.model.plan import Action, Decision, Plan
from boxwright.model.span import Span
from boxwright.model.step import Run, Scratch

CACHED_BASE = "cached"


def graph(file: str = "Recipe") -> Graph:
    steps = [
        Node(Scratch(), (), "FROM scratch", "base", Span(file, 1)),
        Node(Run(("one",), ()), (0,), "RUN one", "main", Span(file, 2)),
        Node(Run(("two",), (("A", "b c"),), cwd="/src", user="app"), (1,), "RUN two", "main", Span(file, 3, 1, 4)),
    ]
    return Graph(tuple(steps), 2, ImageConfig("amd64"))


def plan() -> Plan:
    return Plan(
        (
            Decision(Action.UNUSED, "a later step is cached", digest_of(b"0")),
            Decision(Action.REUSE, "cached", digest_of(b"1")),
            Decision(Action.RUN, "never built with these inputs", digest_of(b"2")),
        )
    )
