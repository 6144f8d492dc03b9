"""The graph of a build: nodes in topological order, each naming its inputs by position."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Step


class Node(NamedTuple):
    """A step in a graph. Each of `inputs` is the position of an earlier node; `meaning`: what a base's name means."""

    step: Step
    inputs: tuple[int, ...]
    title: str
    stage: str
    span: Span
    meaning: str = ""


class Gate(NamedTuple):
    """The end of a validation stage: without this node's snapshot there is no image. `stage` as in its nodes."""

    stage: str
    node: int


class Instructed(NamedTuple):
    """An instruction on the way to the image, as history tells it; `node` is None where it changed settings alone."""

    text: str
    node: int | None


class Graph(NamedTuple):
    """`target` is the position of the node whose snapshot the image is made of."""

    nodes: tuple[Node, ...]
    target: int
    config: ImageConfig
    gates: tuple[Gate, ...] = ()
    history: tuple[Instructed, ...] = ()
