"""What a manifest becomes."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig


class BuiltEntry(NamedTuple):
    """What one entry of the matrix becomes. `gates` are positions without which there is no image of it.

    `plain` is what one more command at the end of `install` would be.
    """

    name: str
    target: int
    config: ImageConfig
    gates: tuple[int, ...]
    names: tuple[str, ...]
    plain: Node | None = None


class ManifestGraph(NamedTuple):
    """The graph of all entries. Its target is the first one's; the others' are gates of it, so that all are made."""

    graph: Graph
    entries: tuple[BuiltEntry, ...]
    notes: tuple[str, ...] = ()
