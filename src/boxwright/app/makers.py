"""Who made the layers of an image: remembered when it is built, for `owns`, `list` and bills of materials."""

from __future__ import annotations

import os

from boxwright.model.graph import Graph, Node
from boxwright.model.image import Snapshot
from boxwright.model.step import Base
from boxwright.solver.keys import Keys
from boxwright.store.provenance import Maker, Provenance
from boxwright.store.store import Store


def keep_makers(graph: Graph, keys: Keys, snapshot: Snapshot, store: Store) -> None:
    """Remember the step of each layer of the target's snapshot; one look where that was done before."""
    provenance = Provenance(store)
    if not snapshot.layers or provenance.maker(snapshot.layers[0]) is not None:
        return
    makers: list[Maker] = []
    position, above = graph.target, snapshot
    while True:
        node = graph.nodes[position]
        below = keys.snapshot(node.inputs[0]) if node.inputs else None
        known = set(below.layers) if below else set()
        kind = type(node.step).__name__
        place = str(node.span._replace(file=os.path.abspath(node.span.file)) if node.span.file != "-" else node.span)
        makers += [Maker(name, kind, _title(node), place) for name in above.layers if name not in known]
        if below is None:
            break
        position, above = node.inputs[0], below
    provenance.keep_makers(makers)


def _title(node: Node) -> str:
    """A base is many definitions', which say it in their own ways (``FROM ${BASE}``): it is called what it is."""
    step = node.step
    return f"FROM {step.name}" if isinstance(step, Base) and step.source != "image" else node.title
