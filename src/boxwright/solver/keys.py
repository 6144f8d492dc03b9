"""Keys of a graph's nodes, as far as they can be known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph, Node
from boxwright.model.image import Snapshot
from boxwright.model.keys import companions, key_of
from boxwright.model.step import Base, BuildPackage, Step
from boxwright.ports import Fields, StepInputs, StepKind

PINNED = ("toolchain", "debian-package")
"""Bases of packages: what they are pinned to identifies them before they are here."""

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
    A package has a definition key besides: its fields with the definition keys of its dependencies in place of what
    they turned out to be. It is known before anything is built; `find_definition` asks the store for its record.
    """

    def __init__(
        self,
        graph: Graph,
        kinds: Kinds,
        find: Find,
        refresh: Collection[int] = (),
        find_definition: Callable[[Digest], Snapshot | None] | None = None,
    ) -> None:
        self._refresh = refresh
        self._graph = graph
        self._kinds = kinds
        self._find = find
        self._find_definition = find_definition
        self._definitions: dict[int, Digest] = {}
        self._known: list[Known | None] = [None] * len(graph.nodes)
        self._built: dict[int, Snapshot] = {}
        self._seen: dict[Digest, Snapshot] = {}
        self._dependents: dict[int, list[int]] = {}
        for position, node in enumerate(graph.nodes):
            for number in node.inputs:
                self._dependents.setdefault(number, []).append(position)

    def kind(self, node: Node) -> StepKind:
        """Who knows about this node's step."""
        return self._kinds[type(node.step)]

    def of(self, position: int) -> Known:
        """What is known of the node. Its inputs must have been asked for before."""
        known = self._known[position]
        if known is None:
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
            return self._by_definition(position)
        key = key_of(type(node.step).__name__, fields)
        state = kind.state(key, self._built.get(position) or self._find_for_state(kind, key, position))
        return Known(fields, key, state or _pinned_state(node.step))

    def _find_for_state(self, kind: StepKind, key: Digest, position: int) -> Snapshot | None:
        return None if position in self._refresh or kind.state(key, None) is not None else self._recorded(key)

    def _by_definition(self, position: int) -> Known:
        """What is known of a package whose dependencies are not here: it may be."""
        if self._find_definition is None or not isinstance(self._graph.nodes[position].step, BuildPackage):
            return Known()
        definition = self.definition(position)
        if definition is None:
            return Known()
        snapshot = self._find_definition(definition)
        if snapshot is None:
            return Known()
        return Known(None, snapshot.key, self.kind(self._graph.nodes[position]).state(snapshot.key, snapshot))

    def definition(self, position: int) -> Digest | None:
        """A package's definition key, None while its toolchain is not known; of other steps what identifies them."""
        node = self._graph.nodes[position]
        if not isinstance(node.step, BuildPackage):
            pinned = node.step.pinned if isinstance(node.step, Base) and node.step.source in PINNED else None
            return pinned or self.of(position).state
        found = self._definitions.get(position)
        if found is None:
            states = tuple(self.definition(number) for number in node.inputs)
            fields = self.kind(node).fields(node.step, StepInputs(states, ()))
            if fields is None:
                return None
            found = self._definitions[position] = key_of(type(node.step).__name__, fields)
        return found

    def _recorded(self, key: Digest) -> Snapshot | None:
        found = self._seen.get(key)
        if found is None:
            found = self._find(key)
            if found is not None:
                self._seen[key] = found
        return found

    def snapshot(self, position: int) -> Snapshot | None:
        """The node's snapshot, where it is built or recorded."""
        built = self._built.get(position)
        if built is not None:
            return built
        if position in self._refresh:
            return None
        key = self.of(position).key
        return recorded(self._recorded, self._graph.nodes[position].step, key) if key is not None else None

    def built(self, position: int, snapshot: Snapshot) -> None:
        """The node's snapshot is there: what depended on it can be known now."""
        self._built[position] = snapshot
        self.recorded(position)

    def recorded(self, position: int) -> None:
        """Something was recorded that may be the node's: it and what depended on it is looked up again."""
        pending = [position]
        while pending:
            number = pending.pop()
            known = self._known[number]
            if number == position or (known is not None and known.state is None):
                self._known[number] = None
                pending.extend(self._dependents.get(number, ()))


def _pinned_state(step: Step) -> Digest | None:
    """What identifies a pinned toolchain before it is here: the pin is its content, which is checked when it comes."""
    return step.pinned if isinstance(step, Base) and step.source == "toolchain" else None


def recorded(find: Find, step: Step, key: Digest) -> Snapshot | None:
    """What is recorded under a step's key, where all that belongs to it is."""
    snapshot = find(key)
    if snapshot is not None and any(find(other) is None for other in companions(step, key)):
        return None
    return snapshot
