"""Graphs whose steps an engine does."""

from __future__ import annotations

from boxwright.model.graph import Gate, Graph, Node
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base, Copy, FromEngine, OnEngine, Run, Service, Step
from boxwright.solver.elsewhere import on_engine

WHERE = Span("manifest.yaml", 1, 1)


def run(text: str, services: tuple[Service, ...] = ()) -> Run:
    return Run(("/bin/sh", "-c", text), (), services=services)


def graph(*steps: tuple[Step, tuple[int, ...]], target: int, gates: tuple[int, ...] = ()) -> Graph:
    nodes = tuple(Node(step, inputs, f"step {n}", "image", WHERE) for n, (step, inputs) in enumerate(steps))
    return Graph(nodes, target, ImageConfig("amd64"), tuple(Gate(f"validate {it}", it) for it in gates))


BASE = Base("tar", "/base.tar", "linux/amd64")


def test_a_line_with_a_branch() -> None:
    before = graph((BASE, ()), (run("a"), (0,)), (run("b"), (1,)), (run("check"), (2,)), target=2, gates=(3,))
    after = on_engine(before, "docker", {2, 3}).graph
    kinds = [type(node.step) for node in after.nodes]
    assert kinds == [Base, OnEngine, OnEngine, OnEngine, FromEngine]
    assert after.target == 4
    assert after.nodes[4].inputs == (2, 0)
    assert after.nodes[3].step == OnEngine("docker", run("check"), gate=True)
    assert after.nodes[2].step == OnEngine("docker", run("b"))
    assert after.gates[0].node == 3


def test_a_step_beside_services_is_done_here_on_the_tree_of_the_engine() -> None:
    service = Service("db", 1, ("server",), (), "", "", 0, "")
    steps: list[tuple[Step, tuple[int, ...]]] = [
        (BASE, ()),
        (run("a"), (0,)),
        (run("with", services=(service,)), (1, 0)),
        (run("c"), (2,)),
    ]
    after = on_engine(graph(*steps, target=3), "lxd", {3}).graph
    native = next(node for node in after.nodes if isinstance(node.step, Run))
    assert isinstance(after.nodes[native.inputs[0]].step, FromEngine)
    last = next(node for node in after.nodes if node.step == OnEngine("lxd", run("c")))
    assert after.nodes[last.inputs[0]] == native


def test_what_a_copy_reads_of_a_state_is_fetched_once() -> None:
    steps: list[tuple[Step, tuple[int, ...]]] = [
        (BASE, ()),
        (run("a"), (0,)),
        (Copy((), "/x"), (0, 1)),
        (Copy((), "/y"), (2, 1)),
    ]
    after = on_engine(graph(*steps, target=3), "lxc", {3, 1}).graph
    trees = [number for number, node in enumerate(after.nodes) if isinstance(node.step, FromEngine)]
    copies = [node for node in after.nodes if isinstance(node.step, OnEngine) and isinstance(node.step.step, Copy)]
    assert len(trees) == 2
    assert {node.inputs[1] for node in copies} == {trees[0]}
    assert all(number < position for position, node in enumerate(after.nodes) for number in node.inputs)


def test_a_base_alone_stays_here() -> None:
    after = on_engine(graph((BASE, ()), target=0), "podman", {0})
    assert [type(node.step) for node in after.graph.nodes] == [Base]
    assert after.positions == {0: 0}
