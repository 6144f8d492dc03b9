"""The graph of a build: nodes in topological order, each naming its inputs by position."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.image import Database, ImageConfig
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


class GraphDatabase(NamedTuple):
    """A database that the image comes with: the tree of `node` holds its dump at `dump` (no leading slash).

    `server` is the node of the server's image, `config` how that is run, `image` what it is called.
    """

    database: Database
    node: int
    dump: str
    server: int
    config: ImageConfig
    image: str


class Graph(NamedTuple):
    """`target` is the position of the node whose snapshot the image is made of."""

    nodes: tuple[Node, ...]
    target: int
    config: ImageConfig
    gates: tuple[Gate, ...] = ()
    history: tuple[Instructed, ...] = ()
    databases: tuple[GraphDatabase, ...] = ()
