"""Keys of a graph's nodes, as far as they can be known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph, Node
from boxwright.model.image import Snapshot
from boxwright.model.keys import companions, key_of
from boxwright.model.step import Step
from boxwright.ports import Fields, StepInputs, StepKind

Find = Callable[[Digest], Snapshot | None]
Kinds = Mapping[type[Step], StepKind]


class Known(NamedTuple):
    """What is known of a node: its key's fields, the key, and what identifies its result for later keys."""

    fields: Fields | None = None
    key: Digest | None = None
    state: Digest | None = None


class Keys:
    """Computes each node's key once its inputs are known. `find` asks the store for a record.

    Of the nodes in `refresh` no record counts: what they are is known when they were built anew.
    """

    def __init__(
        self,
        graph: Graph,
        kinds: Kinds,
        find: Find,
        refresh: Collection[int] = (),
    ) -> None:
        self._refresh = refresh
        self._graph = graph
        self._kinds = kinds
        self._find = find
        self._known: list[Known | None] = [None] * len(graph.nodes)
        self._built: dict[int, Snapshot] = {}

    def kind(self, node: Node) -> StepKind:
        """Who knows about this node's step."""
        return self._kinds[type(node.step)]

    def of(self, position: int) -> Known:
        """What is known of the node. Its inputs must have been asked for before."""
        known = self._known[position]
        if known is None or known.state is None:
            known = self._compute(position)
            self._known[position] = known
        return known

    def _compute(self, position: int) -> Known:
        node = self._graph.nodes[position]
        states = tuple(self.of(number).state for number in node.inputs)
        # The state is enough for the first input; the others are read, so their snapshots count.
        snapshots = tuple(None if number == 0 else self.snapshot(place) for number, place in enumerate(node.inputs))
        kind = self.kind(node)
        try:
            fields = kind.fields(node.step, StepInputs(states, snapshots))
        except BoxwrightError as error:
            error.where = error.where or node.span
            raise
        if fields is None:
            return Known()
        key = key_of(type(node.step).__name__, fields)
        return Known(
            fields, key, kind.state(key, self._built.get(position) or self._find_for_state(kind, key, position))
        )

    def _find_for_state(self, kind: StepKind, key: Digest, position: int) -> Snapshot | None:
        return None if position in self._refresh or kind.state(key, None) is not None else self._find(key)

    def snapshot(self, position: int) -> Snapshot | None:
        """The node's snapshot, where it is built or recorded."""
        built = self._built.get(position)
        if built is not None:
            return built
        if position in self._refresh:
            return None
        key = self.of(position).key
        return recorded(self._find, self._graph.nodes[position].step, key) if key is not None else None

    def built(self, position: int, snapshot: Snapshot) -> None:
        """The node's snapshot is there: what depended on it can be known now."""
        self._built[position] = snapshot
        known = self._known[position]
        if known is not None and known.state is None:
            self._known[position] = None


def recorded(find: Find, step: Step, key: Digest) -> Snapshot | None:
    """What is recorded under a step's key, where all that belongs to it is."""
    snapshot = find(key)
    if snapshot is not None and any(find(other) is None for other in companions(step, key)):
        return None
    return snapshot
