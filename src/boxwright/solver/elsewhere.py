"""Which steps of a graph an engine does: the graph with those steps put there, and their results brought back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from boxwright.model.graph import Graph, Node
from boxwright.model.step import Copy, FromEngine, MakeDirectory, OnEngine, Run

MOUNTS = frozenset({"bind", "cache", "tmpfs"})
"""Kinds of mounts that a build container can have."""


class Moved(NamedTuple):
    """The new graph, and for each node of the old one the node that has its result as a tree."""

    graph: Graph
    positions: Mapping[int, int]


def on_engine(graph: Graph, engine: str, ends: Collection[int]) -> Moved:
    """Put onto `engine` what leads to `ends` (of images and validations) and can be done in a build container.

    A step beside services, and all that is no step of a recipe, is done here, on the tree that the engine made.
    """
    return _Moving(
        graph, engine, _leading_to(graph, {*ends, graph.target, *(gate.node for gate in graph.gates)})
    ).done()


def _leading_to(graph: Graph, ends: Collection[int]) -> set[int]:
    """The steps that stand on one another's states, down to the trees with which they begin."""
    found: set[int] = set()
    for end in ends:
        position = end
        while position not in found and graph.nodes[position].inputs:
            found.add(position)
            position = graph.nodes[position].inputs[0]
    return {position for position in found if _can_move(graph.nodes[position])}


def _can_move(node: Node) -> bool:
    step = node.step
    if isinstance(step, Run):
        plain = not step.services and not step.stdin and step.security == "sandbox"
        return plain and all(mount.kind in MOUNTS for mount in step.mounts)
    return isinstance(step, Copy | MakeDirectory)


class _Moving:
    """One graph being written anew."""

    def __init__(self, graph: Graph, engine: str, moved: set[int]) -> None:
        self._graph = graph
        self._engine = engine
        self._moved = moved
        self._nodes: list[Node] = []
        self._here: dict[int, int] = {}
        self._trees: dict[int, int] = {}

    def done(self) -> Moved:
        """The new graph."""
        graph = self._graph
        gates = {gate.node for gate in graph.gates if gate.stage}
        needed = {number for node in graph.nodes for number in node.inputs}
        for position, node in enumerate(graph.nodes):
            self._here[position] = self._add(position, node, gate=position in gates and position not in needed)
        wanted = {graph.target, *(gate.node for gate in graph.gates if not gate.stage)}
        places = {position: self._tree(position) if position in wanted else new for position, new in self._here.items()}
        result = Graph(
            tuple(self._nodes),
            places[graph.target],
            graph.config,
            tuple(gate._replace(node=places[gate.node]) for gate in graph.gates),
            tuple(it if it.node is None else it._replace(node=self._here[it.node]) for it in graph.history),
            tuple(it._replace(node=self._tree(it.node), server=self._here[it.server]) for it in graph.databases),
        )
        return Moved(result, places)

    def _add(self, position: int, node: Node, *, gate: bool) -> int:
        if position not in self._moved:
            inputs = tuple(self._tree(number) for number in node.inputs)
            return self._append(node._replace(inputs=inputs))
        first = self._here[node.inputs[0]]
        others = tuple(self._tree(number) for number in node.inputs[1:])
        step = node.step
        if not isinstance(step, Run | Copy | MakeDirectory):
            raise TypeError(type(step).__name__)
        return self._append(node._replace(step=OnEngine(self._engine, step, gate), inputs=(first, *others)))

    def _append(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _tree(self, position: int) -> int:
        """The node with the result as a tree of the store."""
        if position not in self._moved:
            return self._here[position]
        if position not in self._trees:
            node = self._graph.nodes[position]
            inputs = (self._here[position], self._here[self._beginning(position)])
            title = f"fetch the tree from {self._engine}"
            step = FromEngine(self._engine, self._mounts(position))
            self._trees[position] = self._append(Node(step, inputs, title, node.stage, node.span))
        return self._trees[position]

    def _mounts(self, position: int) -> tuple[str, ...]:
        """Where something was mounted on the way to a state."""
        found: dict[str, None] = {}
        while position in self._moved:
            node = self._graph.nodes[position]
            found |= {mount.target: None for mount in node.step.mounts} if isinstance(node.step, Run) else {}
            position = node.inputs[0]
        return tuple(sorted(found))

    def _beginning(self, position: int) -> int:
        while position in self._moved:
            position = self._graph.nodes[position].inputs[0]
        return position
