"""A build's graph as text, DOT, Mermaid and SVG."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from boxwright.errors import BoxwrightError, MachineError
from boxwright.model.graph import Graph
from boxwright.model.step import ServiceData

LONGEST = 60
SECONDS = 60


class Drawn(NamedTuple):
    """A graph and what is made of it: `results` are names of images, each with the nodes that it stands on."""

    graph: Graph
    results: Sequence[tuple[str, tuple[int, ...]]]


def as_text(drawn: Drawn) -> Iterator[str]:
    """A line for each node: its number, stage, title, and the nodes that it stands on."""
    yield "start"
    for position, node in enumerate(drawn.graph.nodes):
        inputs = ", ".join(str(number + 1) for number in node.inputs) or "start"
        yield f"{position + 1:>4} [{node.stage}] {short(node.title)}  <- {inputs}"
    for name, below in drawn.results:
        yield f"commit {name}  <- {', '.join(str(number + 1) for number in below)}"


def as_dot(drawn: Drawn) -> str:
    """Graphviz (graphviz.org/doc/info/lang.html): a cluster for each stage."""
    lines = ["digraph build {", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif", fontsize=11];']
    lines.append('  start [shape=circle, label="start"];')
    for number, (stage, members) in enumerate(_stages(drawn.graph).items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(stage)};"]
        style = ', style=rounded, color="#b06000"' if stage.startswith("validate") else ""
        for position in members:
            label = _quoted(short(drawn.graph.nodes[position].title))
            lines.append(f"    n{position + 1} [label={label}{style}];")
        lines.append("  }")
    for source, target in _edges(drawn.graph):
        lines.append(f"  {source} -> {target};")
    for number, (name, below) in enumerate(drawn.results):
        lines.append(f"  commit{number} [shape=doublecircle, label={_quoted(f'commit {name}'.strip())}];")
        lines += [f"  n{position + 1} -> commit{number};" for position in below]
    return "\n".join([*lines, "}"])


def as_mermaid(drawn: Drawn) -> str:
    """Mermaid (mermaid.js.org/syntax/flowchart.html)."""
    lines = ["flowchart TB", "  start((start))"]
    for number, (stage, members) in enumerate(_stages(drawn.graph).items()):
        lines.append(f'  subgraph s{number}["{_entity(stage)}"]')
        lines += [f'    n{it + 1}["{_entity(short(drawn.graph.nodes[it].title))}"]' for it in members]
        lines.append("  end")
    lines += [f"  {source} --> {target}" for source, target in _edges(drawn.graph)]
    for number, (name, below) in enumerate(drawn.results):
        lines.append(f'  commit{number}((("{_entity(f"commit {name}".strip())}")))')
        lines += [f"  n{position + 1} --> commit{number}" for position in below]
    return "\n".join(lines)


def as_svg(drawn: Drawn) -> str:
    """What Graphviz draws. Raises MachineError `graph.no-dot`."""
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"],
            input=as_dot(drawn),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        hint = "apt-get install graphviz, or use --format dot or mermaid"
        raise MachineError("graph.no-dot", "Graphviz's `dot` draws SVG, and it is not here", hint=hint) from error
    if done.returncode:
        raise BoxwrightError("graph.dot", f"`dot` failed: {done.stderr.strip()}")
    return done.stdout


def short(title: str) -> str:
    """A title on one line, not too long."""
    text = " ".join(title.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _stages(graph: Graph) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, node in enumerate(graph.nodes):
        if not isinstance(node.step, ServiceData):
            found.setdefault(node.stage, []).append(position)
    return found


def _edges(graph: Graph) -> Iterator[tuple[str, str]]:
    """What services leave is drawn as an edge from the step beside which they ran."""
    for position, node in enumerate(graph.nodes):
        if isinstance(node.step, ServiceData):
            continue
        if not node.inputs:
            yield "start", f"n{position + 1}"
        origins = {_origin(graph, number): None for number in node.inputs}
        for number in origins:
            yield f"n{number + 1}", f"n{position + 1}"


def _origin(graph: Graph, position: int) -> int:
    node = graph.nodes[position]
    return node.inputs[0] if isinstance(node.step, ServiceData) else position


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _entity(text: str) -> str:
    return "".join(f"#{ord(c)};" if c in '"<>#&`;' else c for c in text)
