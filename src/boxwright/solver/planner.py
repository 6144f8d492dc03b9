"""Plans: a graph and what is known go in, decisions with reasons come out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.plan import Action, Decision, Plan
from boxwright.solver.keys import Keys


def make_plan(
    graph: Graph,
    keys: Keys,
    *,
    refuse: Collection[int] = (),
    keep: Collection[int] = (),
    offered: Mapping[int, str] = MappingProxyType({}),
) -> Plan:
    """For each node: reuse what is recorded, fetch what is `offered`, run it, or leave it because nothing needs it.

    Nodes in `refuse` are run whatever is recorded (``--no-cache``); those in `keep` are wanted beside the target and
    the gates (``--layers``). `offered` says by whom.
    """
    for position in range(len(graph.nodes)):
        keys.of(position)
    decisions: list[Decision | None] = [None] * len(graph.nodes)
    needed = [graph.target, *(gate.node for gate in graph.gates), *(it.node for it in graph.databases), *keep]
    while needed:
        position = needed.pop()
        if decisions[position] is not None:
            continue
        decision = _decide(graph, keys, position, recorded=_recorded(keys, position, refuse))
        if decision.action is Action.RUN and position in offered and position not in refuse:
            decision = Decision(Action.FETCH, f"found in {offered[position]}", decision.key)
        decisions[position] = decision
        if decision.action is Action.RUN:
            needed.extend(graph.nodes[position].inputs)
    return Plan(
        tuple(
            decision or Decision(Action.UNUSED, "a later step is cached", keys.of(position).key)
            for position, decision in enumerate(decisions)
        )
    )


def _recorded(keys: Keys, position: int, refuse: Collection[int]) -> Snapshot | None:
    return None if position in refuse else keys.snapshot(position)


def _decide(graph: Graph, keys: Keys, position: int, *, recorded: Snapshot | None) -> Decision:
    key = keys.of(position).key
    if recorded is not None:
        return Decision(Action.REUSE, "cached", key)
    if key is not None:
        return Decision(Action.RUN, "never built with these inputs", key)
    open_inputs = [number for number in graph.nodes[position].inputs if keys.snapshot(number) is None]
    names = ", ".join(dict.fromkeys(graph.nodes[number].stage for number in open_inputs))
    return Decision(Action.RUN, f"decided when {names} is built", None)
