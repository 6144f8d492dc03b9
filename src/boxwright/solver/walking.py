"""A walk through a graph: where it is, and what was changed on the way. Pure; nothing here runs anything.

A step is known by its number: the position in the file's graph, or one below zero where it was typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from boxwright.errors import UsageError
from boxwright.model.graph import Gate, Graph, Node
from boxwright.model.span import Span
from boxwright.model.step import BuildPackage, Copy, Run, ServiceData, SnapshotSource

TYPED = Span("(typed)", 1)
"""Where a typed step stands."""


class Typed(NamedTuple):
    """A step that was typed: it stands behind the step `after`. The inputs of `node` are those of the file's graph.

    `stage` is the one on whose way it stands; where `after` is that one's end, whatever reads the stage sees it.
    """

    number: int
    after: int
    stage: str
    node: Node


class Walk(NamedTuple):
    """`at` counts the steps as `listed` has them: that one is the next, or none where it is their number."""

    graph: Graph
    at: int = 0
    skipped: frozenset[int] = frozenset()
    edited: tuple[tuple[int, Node], ...] = ()
    typed: tuple[Typed, ...] = ()


class Overlaid(NamedTuple):
    """The graph with the changes, and where each step of the walk is in it; a skipped one is what it began with."""

    graph: Graph
    places: Mapping[int, int]


# What is walked -----------------------------------------------------------------------------------------------------


def listed(walk: Walk) -> tuple[int, ...]:
    """The steps in the order in which they are walked."""
    found: list[int] = []
    for position in sorted(_walkable(walk.graph)):
        found.append(position)
        found.extend(it.number for it in walk.typed if it.after == position)
    return tuple(found)


def _walkable(graph: Graph) -> set[int]:
    """What leads to the image and the validations, and to what is copied from there; not what is done beside them."""
    found: set[int] = set()
    ends = [graph.target, *(gate.node for gate in graph.gates)]
    while ends:
        position = ends.pop()
        while position not in found:
            node = graph.nodes[position]
            if isinstance(node.step, BuildPackage | ServiceData):
                break
            found.add(position)
            if isinstance(node.step, Copy):
                ends += [node.inputs[it.position] for it in node.step.sources if isinstance(it, SnapshotSource)]
            if not node.inputs:
                break
            position = node.inputs[0]
    return found


def next_number(walk: Walk) -> int | None:
    """The next step; None at the end."""
    steps = listed(walk)
    return steps[walk.at] if walk.at < len(steps) else None


def node_of(walk: Walk, number: int) -> Node:
    """A step as it is now."""
    typed = next((it.node for it in walk.typed if it.number == number), None)
    return typed or dict(walk.edited).get(number) or walk.graph.nodes[number]


def is_changed(walk: Walk) -> bool:
    """Whether the walk is another one than the file's."""
    return bool(walk.skipped or walk.edited or walk.typed)


# Going and changing -------------------------------------------------------------------------------------------------


def gone_to(walk: Walk, index: int) -> Walk:
    """The walk with another next step, counted from 0."""
    return walk._replace(at=max(0, min(index, len(listed(walk)))))


def with_skipped(walk: Walk, number: int) -> Walk:
    """The walk without a step, going on behind it; a typed one is forgotten. Raises UsageError `interactive.base`."""
    steps = listed(walk)
    index = steps.index(number)
    if number < 0:
        left = walk._replace(typed=tuple(it for it in walk.typed if it.number != number))
        return gone_to(left, index)
    if not walk.graph.nodes[number].inputs:
        raise UsageError("interactive.base", "what a stage starts from can't be skipped")
    return walk._replace(skipped=walk.skipped | {number}, at=index + 1)


def with_edited(walk: Walk, number: int, node: Node) -> Walk:
    """The walk with another step in place of one; it is the next then."""
    index = listed(walk).index(number)
    if number < 0:
        typed = tuple(it._replace(node=node) if it.number == number else it for it in walk.typed)
        return walk._replace(typed=typed, at=index)
    edited = {**dict(walk.edited), number: node}
    if node == walk.graph.nodes[number]:
        del edited[number]
    return walk._replace(edited=tuple(edited.items()), skipped=walk.skipped - {number}, at=index)


def restored(walk: Walk, number: int) -> Walk:
    """The walk with a step as the file has it; a typed one is forgotten. It is the next then."""
    if number < 0:
        return with_skipped(walk, number)
    edited = tuple(it for it in walk.edited if it[0] != number)
    return walk._replace(edited=edited, skipped=walk.skipped - {number}, at=listed(walk).index(number))


def place_of_typed(walk: Walk) -> tuple[int, str]:
    """Behind which step of the file something typed now would stand, and in which stage.

    That is the one from which the next step starts; before a validation's, the end of the image.
    Raises UsageError `interactive.no-state` before there is any.
    """
    steps = listed(walk)
    if walk.at == 0:
        raise UsageError("interactive.no-state", "there is no state yet", hint="run the first step before")
    number = next_number(walk)
    gates = {gate.stage for gate in walk.graph.gates if gate.stage}
    if number is None or (number >= 0 and walk.graph.nodes[number].stage in gates):
        return walk.graph.target, walk.graph.nodes[walk.graph.target].stage
    if number < 0:
        following = next(it for it in walk.typed if it.number == number)
        return following.after, following.stage
    node = walk.graph.nodes[number]
    if node.inputs:
        return node.inputs[0], node.stage
    last = steps[walk.at - 1]
    before = next((it for it in walk.typed if it.number == last), None)
    return (before.after, before.stage) if before else (last, walk.graph.nodes[last].stage)


def with_typed(walk: Walk, node: Node) -> Walk:
    """The walk with a step typed at `place_of_typed`; it is the next. The first input of `node` is its place."""
    after, stage = place_of_typed(walk)
    number = min((it.number for it in walk.typed), default=0) - 1
    following = next_number(walk)
    index = next((n for n, it in enumerate(walk.typed) if it.number == following), len(walk.typed))
    typed = (*walk.typed[:index], Typed(number, after, stage, node), *walk.typed[index:])
    changed = walk._replace(typed=typed)
    return changed._replace(at=listed(changed).index(number))


def moved_to(walk: Walk, graph: Graph) -> tuple[Walk, tuple[int, ...]]:
    """The same walk over a graph that was read anew, and the changed steps that are not there any more.

    A step is found again by its stage and title, and by how many such stand before it.
    """
    there = {name: position for position, name in enumerate(_names(graph))}
    names = _names(walk.graph)
    now = {position: there[name] for position, name in enumerate(names) if name in there}
    edited = tuple(
        (now[number], node._replace(inputs=graph.nodes[now[number]].inputs, span=graph.nodes[now[number]].span))
        for number, node in walk.edited
        if number in now
    )
    typed = tuple(
        it._replace(after=now[it.after], node=it.node._replace(inputs=tuple(now[n] for n in it.node.inputs)))
        for it in walk.typed
        if it.after in now and all(n in now for n in it.node.inputs)
    )
    lost = [number for number in (*sorted(walk.skipped), *(number for number, _ in walk.edited)) if number not in now]
    kept = {it.number for it in typed}
    lost += [it.number for it in walk.typed if it.number not in kept]
    moved = Walk(graph, 0, frozenset(now[it] for it in walk.skipped if it in now), edited, typed)
    number = next_number(walk)
    steps = listed(moved)
    wanted = number if number is None or number < 0 else now.get(number)
    at = len(steps) if number is None else steps.index(wanted) if wanted in steps else min(walk.at, len(steps))
    return moved._replace(at=at), tuple(lost)


def _names(graph: Graph) -> list[tuple[str, str, int]]:
    seen: dict[tuple[str, str], int] = {}
    found = []
    for node in graph.nodes:
        name = node.stage, node.title
        seen[name] = seen.get(name, 0) + 1
        found.append((*name, seen[name]))
    return found


# What a typed command is --------------------------------------------------------------------------------------------


def command_node(walk: Walk, plain: Node, title: str, argv: tuple[str, ...]) -> Node:
    """A command as a step at `place_of_typed`: with what `plain` has, beside the services as they are there."""
    after, _ = place_of_typed(walk)
    step = plain.step
    if not isinstance(step, Run):
        raise TypeError(plain.title)
    inputs = [after, *plain.inputs[1:]]
    for service in step.services:
        inputs[service.position] = _data_at(walk.graph, plain.inputs[service.position], service.name, after)
    return plain._replace(step=step._replace(argv=argv), inputs=tuple(inputs), title=title, span=TYPED)


def _data_at(graph: Graph, data: int, service: str, after: int) -> int:
    """The data of a service as it is behind the step `after`: going back from `data`."""
    node = graph.nodes[data]
    while isinstance(node.step, ServiceData) and node.inputs[0] > after:
        run = graph.nodes[node.inputs[0]]
        if not isinstance(run.step, Run):
            break
        data = run.inputs[next(it.position for it in run.step.services if it.name == service)]
        node = graph.nodes[data]
    return data


# The graph with the changes -----------------------------------------------------------------------------------------


def overlaid(walk: Walk) -> Overlaid:
    """The graph in which the changes are made."""
    return _Overlay(walk).done()


class _Overlay:
    """One graph being written anew. Its nodes are added when something needs them, each behind its inputs."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._graph = walk.graph
        self._nodes: list[Node] = []
        self._made: dict[int, int] = {}
        self._data: dict[tuple[int, str], int] = {}
        self._order = {it.number: (it.after, n + 1) for n, it in enumerate(walk.typed)}
        self._followers = {
            (it.after, it.stage): frozenset(
                position
                for position, node in enumerate(self._graph.nodes)
                if node.inputs[:1] == (it.after,) and node.stage == it.stage and not isinstance(node.step, ServiceData)
            )
            for it in walk.typed
        }

    def done(self) -> Overlaid:
        """The new graph."""
        graph = self._graph
        for position in range(len(graph.nodes)):
            if not self._is_gone(position):
                self._add(position)
        for typed in self._walk.typed:
            self._add(typed.number)
        gates = [self._gate(gate) for gate in graph.gates]
        result = Graph(
            tuple(self._nodes),
            self._state(graph.target, None),
            graph.config,
            tuple(gate for gate in gates if gate is not None),
            (),
            tuple(it._replace(node=self._dump(it.node), server=self._add(it.server)) for it in graph.databases),
        )
        return Overlaid(result, {number: self._place(number) for number in listed(self._walk)})

    def _is_gone(self, position: int) -> bool:
        step = self._graph.nodes[position].step
        return position in self._walk.skipped or (
            isinstance(step, ServiceData) and self._begins(position) in self._walk.skipped
        )

    def _dump(self, position: int) -> int:
        """The data of a service at the end."""
        step = self._graph.nodes[position].step
        end = len(self._graph.nodes)
        return self._data_before(position, step.name, end) if isinstance(step, ServiceData) else self._add(position)

    def _place(self, number: int) -> int:
        return self._state(self._begins(number), number) if number in self._walk.skipped else self._add(number)

    def _begins(self, number: int) -> int:
        """What a step stands on."""
        return self._graph.nodes[number].inputs[0]

    def _gate(self, gate: Gate) -> Gate | None:
        """None where all of a validation is skipped."""
        node = gate.node
        while node in self._walk.skipped:
            node = self._begins(node)
        if gate.stage and self._graph.nodes[node].stage != gate.stage:
            return None
        return gate._replace(node=self._state(gate.node, None))

    def _add(self, number: int) -> int:
        """The new position of a step."""
        if number not in self._made:
            node = node_of(self._walk, number)
            inputs = tuple(self._input(node, index, number) for index in range(len(node.inputs)))
            self._nodes.append(node._replace(inputs=inputs))
            self._made[number] = len(self._nodes) - 1
        return self._made[number]

    def _input(self, node: Node, index: int, number: int) -> int:
        given = node.inputs[index]
        if isinstance(node.step, ServiceData):
            return self._add(given)
        if isinstance(node.step, Run):
            service = next((it for it in node.step.services if it.position == index and not it.told), None)
            if service is not None:
                return self._data_before(given, service.name, number)
        read = self._graph.nodes[given].step
        if isinstance(read, ServiceData):
            return self._data_before(given, read.name, number)
        if number < 0:
            typed = [it for it in self._walk.typed if it.after == given and it.stage == self._stage_of(number)]
            earlier = typed[: [it.number for it in typed].index(number)] if index == 0 else []
            return self._add(earlier[-1].number) if earlier else self._below(given, number)
        return self._state(given, number, first=index == 0)

    def _stage_of(self, number: int) -> str:
        return next(it.stage for it in self._walk.typed if it.number == number)

    def _state(self, given: int, reader: int | None, *, first: bool = True) -> int:
        """What stands for the state `given`, for a step that reads it; `reader` None: for the graph itself."""
        typed = [it for it in self._walk.typed if it.after == given and self._sees(it, reader, first=first)]
        return self._add(typed[-1].number) if typed else self._below(given, reader)

    def _sees(self, typed: Typed, reader: int | None, *, first: bool) -> bool:
        followers = self._followers[typed.after, typed.stage]
        if followers:
            return first and reader in followers
        return first or bool(self._graph.nodes[typed.after].inputs)

    def _below(self, given: int, reader: int | None) -> int:
        """The step itself, or what a skipped one began with."""
        return self._state(self._begins(given), given) if given in self._walk.skipped else self._add(given)

    def _data_before(self, data: int, service: str, number: int) -> int:
        """What stands for the data of a service, for a step that reads it."""
        order = self._order.get(number, (number, 0))
        writers = [
            it
            for it in self._walk.typed
            if self._order[it.number] < order and self._reads(it.node, data, service) and it.number != number
        ]
        if writers:
            return self._data_after(max(writers, key=lambda it: self._order[it.number]), service)
        node = self._graph.nodes[data]
        if isinstance(node.step, ServiceData) and node.inputs[0] in self._walk.skipped:
            run = self._graph.nodes[node.inputs[0]]
            return self._data_before(_service_input(run, service), service, number)
        return self._add(data)

    def _data_after(self, typed: Typed, service: str) -> int:
        key = typed.number, service
        if key not in self._data:
            title = f"{service}: data after {typed.node.title}"
            place = self._add(typed.number)
            self._nodes.append(typed.node._replace(step=ServiceData(service), inputs=(place,), title=title))
            self._data[key] = len(self._nodes) - 1
        return self._data[key]

    @staticmethod
    def _reads(node: Node, data: int, service: str) -> bool:
        known = isinstance(node.step, Run) and any(it.name == service for it in node.step.services)
        return known and _service_input(node, service) == data


def _service_input(node: Node, service: str) -> int:
    if not isinstance(node.step, Run):
        raise TypeError(node.title)
    return node.inputs[next(it.position for it in node.step.services if it.name == service)]
