"""Walks as pure state: where they are, and the graph that their changes make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import UsageError
from boxwright.model.graph import Gate, Graph, Node
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base, Copy, Run, Service, ServiceData, SnapshotSource
from boxwright.solver import walking
from boxwright.solver.walking import Walk

HERE = Span("manifest.yaml", 1)
SHELL = ("/bin/sh", "-c")


def command(text: str, *inputs: int, stage: str = "image", services: tuple[Service, ...] = ()) -> Node:
    return Node(Run((*SHELL, text), (), services=services), inputs, f"run {text}", stage, HERE)


def base(stage: str = "image") -> Node:
    return Node(Base("tar", "x", "linux/amd64"), (), "image x", stage, HERE)


def graph_of(*nodes: Node, target: int, gates: tuple[Gate, ...] = ()) -> Graph:
    return Graph(nodes, target, ImageConfig("amd64"), gates)


LINE = graph_of(
    base(),
    command("a", 0),
    command("b", 1),
    command("test", 2, stage="validate test"),
    command("more", 3, stage="validate test"),
    target=2,
    gates=(Gate("validate test", 4),),
)


def box(position: int, *, keep: bool = True) -> Service:
    return Service("BOX", position, ("serve",), (), "", "ready", 7000, "BOX_PORT", keep=keep)


BESIDE = graph_of(
    base(),
    base("service box")._replace(step=Base("tar", "box", "linux/amd64")),
    command("a", 0, 1, services=(box(1),)),
    Node(ServiceData("BOX"), (2,), "BOX: data after a", "image", HERE),
    command("b", 2, 3, services=(box(1),)),
    Node(ServiceData("BOX"), (4,), "BOX: data after b", "image", HERE),
    command("test", 4, 5, stage="validate test", services=(box(1, keep=False),)),
    target=4,
    gates=(Gate("validate test", 6),),
)
STAGES = graph_of(
    base("one"),
    command("a", 0, stage="one"),
    base("two"),
    Node(Copy((SnapshotSource(("/a",), 1),), "/"), (2, 1), "copy", "two", HERE),
    command("b", 3, stage="two"),
    target=4,
)
PLAIN = {id(LINE): command("", 2), id(BESIDE): command("", 4, 5, services=(box(1),)), id(STAGES): command("", 4)}


def typed(walk: Walk, text: str, plain: Node) -> Walk:
    return walking.with_typed(walk, walking.command_node(walk, plain, f"run {text}", (*SHELL, text)))


def story(graph: Graph, position: int | None = None) -> list[str]:
    """What was done before a state, the first at the front; a service's own in braces."""
    node = graph.nodes[graph.target if position is None else position]
    if isinstance(node.step, ServiceData):
        return [*story(graph, node.inputs[0])]
    below = story(graph, node.inputs[0]) if node.inputs else []
    return [*below, node.title]


def data_story(graph: Graph, run: int) -> list[str]:
    """Beside which commands the service ran before this one."""
    step = graph.nodes[run].step
    assert isinstance(step, Run)
    data = graph.nodes[graph.nodes[run].inputs[step.services[0].position]]
    return [] if not data.inputs else [*data_story(graph, data.inputs[0]), graph.nodes[data.inputs[0]].title]


def test_it_walks_what_leads_to_the_image_and_the_validations() -> None:
    assert walking.listed(Walk(LINE)) == (0, 1, 2, 3, 4)
    assert walking.listed(Walk(BESIDE)) == (0, 2, 4, 6)
    assert walking.listed(Walk(STAGES)) == (0, 1, 2, 3, 4)


def test_without_changes_it_is_the_same_graph() -> None:
    for graph in (LINE, BESIDE, STAGES):
        assert walking.overlaid(Walk(graph)).graph == graph


def test_a_typed_step_stands_before_the_next_one() -> None:
    walk = typed(walking.gone_to(Walk(LINE), 2), "x", PLAIN[id(LINE)])
    assert walk.at == 2
    assert [walking.node_of(walk, it).title for it in walking.listed(walk)][1:4] == ["run a", "run x", "run b"]
    over = walking.overlaid(walk)
    assert story(over.graph) == ["image x", "run a", "run x", "run b"]
    assert story(over.graph, over.graph.gates[0].node)[-2:] == ["run test", "run more"]


def test_typed_steps_follow_one_another() -> None:
    plain = PLAIN[id(LINE)]
    walk = typed(walking.gone_to(Walk(LINE), 2), "x", plain)
    after = typed(walking.gone_to(walk, 3), "y", plain)
    between = typed(walking.gone_to(after, 3), "m", plain)
    assert story(walking.overlaid(between).graph) == ["image x", "run a", "run x", "run m", "run y", "run b"]


@pytest.mark.parametrize("at", [3, 4, 5])
def test_before_a_validation_it_belongs_to_the_image(at: int) -> None:
    over = walking.overlaid(typed(walking.gone_to(Walk(LINE), at), "x", PLAIN[id(LINE)]))
    assert story(over.graph) == ["image x", "run a", "run b", "run x"]
    gate = over.graph.gates[0].node
    assert story(over.graph, gate) == ["image x", "run a", "run b", "run x", "run test", "run more"]


def test_at_the_end_of_a_stage_whatever_reads_it_sees_it() -> None:
    walk = typed(walking.gone_to(Walk(STAGES), 2), "x", PLAIN[id(STAGES)])
    over = walking.overlaid(walk)
    copy = next(node for node in over.graph.nodes if node.title == "copy")
    assert story(over.graph, copy.inputs[1]) == ["image x", "run a", "run x"]
    assert story(over.graph) == ["image x", "copy", "run b"]


def test_what_it_writes_into_a_service_is_there_for_the_next() -> None:
    plain = PLAIN[id(BESIDE)]
    walk = typed(walking.gone_to(Walk(BESIDE), 2), "x", plain)
    walk = typed(walking.gone_to(walk, 3), "y", plain)
    graph = walking.overlaid(walk).graph
    assert data_story(graph, graph.target) == ["run a", "run x", "run y"]
    first = walking.overlaid(typed(walking.gone_to(Walk(BESIDE), 1), "x", plain)).graph
    assert data_story(first, first.gates[0].node) == ["run x", "run a", "run b"]


def test_a_skipped_step_leaves_no_trace() -> None:
    over = walking.overlaid(walking.with_skipped(Walk(BESIDE), 2))
    assert story(over.graph) == ["image x", "run b"]
    assert data_story(over.graph, over.graph.target) == []
    assert all(node.title != "run a" for node in over.graph.nodes)


def test_a_validation_that_is_skipped_gates_no_more() -> None:
    first = walking.with_skipped(Walk(LINE), 4)
    over = walking.overlaid(first)
    assert story(over.graph, over.graph.gates[0].node)[-1] == "run test"
    assert walking.overlaid(walking.with_skipped(first, 3)).graph.gates == ()


def test_what_a_stage_starts_from_stays() -> None:
    with pytest.raises(UsageError) as caught:
        walking.with_skipped(Walk(LINE), 0)
    assert caught.value.code == "interactive.base"
    with pytest.raises(UsageError) as caught:
        walking.place_of_typed(Walk(LINE))
    assert caught.value.code == "interactive.no-state"


def test_edited_and_restored() -> None:
    other = command("other", 1)
    walk = walking.with_edited(walking.gone_to(Walk(LINE), 5), 2, other)
    assert walk.at == 2
    assert story(walking.overlaid(walk).graph) == ["image x", "run a", "run other"]
    assert not walking.is_changed(walking.with_edited(walk, 2, LINE.nodes[2]))
    assert walking.overlaid(walking.restored(walk, 2)).graph == LINE


def test_changes_find_their_steps_in_a_file_that_was_read_anew() -> None:
    walk = walking.with_skipped(typed(walking.gone_to(Walk(LINE), 2), "x", PLAIN[id(LINE)]), 1)
    walk = walking.with_edited(walk, 4, command("less", 3, stage="validate test"))
    later = graph_of(
        base(), command("new", 0), command("a", 1), command("b", 2), command("test", 3, stage="validate test"), target=3
    )
    moved, lost = walking.moved_to(walk, later)
    assert lost == (4,)
    assert moved.skipped == {2}
    assert story(walking.overlaid(moved).graph) == ["image x", "run new", "run x", "run b"]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["go", "type", "skip", "edit", "restore"]), st.integers(0, 9)), max_size=12
)


@given(st.sampled_from([LINE, BESIDE, STAGES]), ACTIONS)
def test_any_walk_gives_a_graph_that_can_be_built(graph: Graph, actions: list[tuple[str, int]]) -> None:
    walk = Walk(graph)
    for count, (action, given_number) in enumerate(actions):
        steps = walking.listed(walk)
        number = steps[given_number % len(steps)]
        node = walking.node_of(walk, number)
        if action == "go":
            walk = walking.gone_to(walk, given_number % (len(steps) + 1))
        elif action == "type" and walk.at:
            walk = typed(walk, str(count), PLAIN[id(graph)])
        elif action == "skip" and not isinstance(node.step, Base):
            walk = walking.with_skipped(walk, number)
        elif action == "restore":
            walk = walking.restored(walk, number)
        elif action == "edit" and isinstance(node.step, Run):
            walk = walking.with_edited(walk, number, node._replace(title=f"edited {count}"))
        over = walking.overlaid(walk)
        assert 0 <= walk.at <= len(walking.listed(walk))
        assert all(number < place for place, node in enumerate(over.graph.nodes) for number in node.inputs)
        assert set(over.places) == set(walking.listed(walk))
        titles = [node.title for node in over.graph.nodes]
        assert all(it.node.title in titles for it in walk.typed)
        for it in () if walk.skipped else walk.typed:  # a COPY that is skipped leaves a stage that nobody reads
            reached = [over.graph.target, *(gate.node for gate in over.graph.gates)]
            copied = [n for node in over.graph.nodes if isinstance(node.step, Copy) for n in node.inputs[1:]]
            seen = {title for end in (*reached, *copied) for title in story(over.graph, end)}
            assert it.node.title in seen, "what was typed is on the way to something"
    for number in (*walk.skipped, *dict(walk.edited), *(it.number for it in walk.typed)):
        walk = walking.restored(walk, number)
    assert walking.overlaid(walk).graph == graph
