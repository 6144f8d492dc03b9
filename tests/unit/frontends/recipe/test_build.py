"""Recipes become graphs: cases in a data file, and what holds for any recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph, proxy_args, unused_build_args
from boxwright.frontends.recipe.state import DEFAULT_PATH
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig, Port
from boxwright.model.span import Span
from boxwright.model.step import (
    Base,
    ContextSource,
    Copy,
    Fetch,
    InlineSource,
    MakeDirectory,
    RemoteSource,
    Run,
    ServiceData,
    Source,
    Step,
)
from boxwright.ports import ResolvedBase

CASES = Path(__file__).parents[3] / "cases" / "recipe" / "build.yaml"
BASES = {
    "with-env": ImageConfig("amd64", env=(("given", "base"),)),
    "with-path": ImageConfig("amd64", env=(("PATH", "/base"),)),
    "with-config": ImageConfig("amd64", workdir="/base", user="someone", cmd=("base-cmd",), entrypoint=("base-entry",)),
    "with-onbuild": ImageConfig("amd64", onbuild=("COPY . /app/", "RUN <<E\nx\nE")),
}


class Bases:
    """A resolver for which every name is a base."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        config = BASES.get(name, ImageConfig(platform.split("/")[1]))
        return ResolvedBase(Base("registry", name, platform), config, name)

    def recipe(self, name: str) -> tuple[str, str]:
        return f"ARG SUITE=none\nFROM debian:$SUITE AS {name}\n", f"{name}/Recipe"


def graph_of(text: str, file: str = "Dockerfile", **options: Any) -> Graph:
    if "labels" in options:
        options["labels"] = tuple(options["labels"].items())
    if "contexts" in options:
        options["contexts"] = frozenset(options["contexts"])
    return build_graph(text, file, resolver=Bases(), options=RecipeOptions(**options))


def shown_source(source: Source) -> str:
    if isinstance(source, InlineSource):
        return f"inline {source.name} '{source.text}'"
    if isinstance(source, ContextSource):
        return " ".join([f"context:{source.context}".rstrip(":"), *source.paths])
    if isinstance(source, RemoteSource):
        return f"{source.position} {source.path} as {source.name}"
    return " ".join([str(source.position), *source.paths])


def shown(node: Node) -> str:
    return shown_step(node.step) + (f" @{' '.join(map(str, node.inputs))}" if node.inputs else "")


def shown_step(step: Step) -> str:
    match step:
        case Base(name=name):
            return f"base {name}"
        case Fetch(kind=kind, location=location, checksum=checksum, ref=ref, keep_git_dir=keep):
            words = [kind, location, *filter(None, (ref, checksum)), *(["keep"] if keep else [])]
            return f"fetch {' '.join(words)}"
        case MakeDirectory(path=word) | ServiceData(name=word):
            return f"{'mkdir' if isinstance(step, MakeDirectory) else 'data'} {word}"
        case Run(argv=argv, shell=shell, services=services):
            is_shell = bool(shell) and argv[: len(shell)] == shell
            words = [" ".join(shell), *argv[len(shell) :]] if is_shell else list(argv)
            beside = "".join(f" beside {it.name}:{it.port}@{it.position}" for it in services)
            return f"run {'|'.join(words)}{beside}"
        case Copy(sources=sources, destination=destination):
            return f"copy {' '.join(map(shown_source, sources))} -> {destination}"
        case _:
            return type(step).__name__.lower()


def shown_port(port: Port) -> str:
    text = f"{port.container}/{port.protocol}"
    return f"{port.host}:{text}" if port.host else text


def plain(value: object) -> object:
    """A field as the data file writes it."""
    if not isinstance(value, tuple):
        return value
    if value and all(isinstance(item, tuple) and not isinstance(item, Port) for item in value):
        return {name: "default" if item == DEFAULT_PATH else item for name, item in value}
    return [shown_port(item) if isinstance(item, Port) else item for item in value]


def check_config(config: ImageConfig, wanted: dict[str, Any]) -> None:
    wanted = dict(wanted)
    if "healthcheck" in wanted:
        assert config.healthcheck is not None
        given_fields = {name: plain(value) for name, value in config.healthcheck._asdict().items() if value}
        assert given_fields == wanted.pop("healthcheck")
    assert {name: plain(getattr(config, name)) for name in wanted} == wanted


def check_last(graph: Graph, case: dict[str, Any]) -> None:
    """The last RUN and the last COPY."""
    runs = [node.step for node in graph.nodes if isinstance(node.step, Run)]
    copies = [node.step for node in graph.nodes if isinstance(node.step, Copy)]
    for name, step in (("run", runs), ("copy", copies)):
        wanted = case.get(name, {})
        assert {field: plain(getattr(step[-1], field)) for field in wanted} == wanted
    if "env" in case:
        assert dict(runs[-1].env) == {"PATH": DEFAULT_PATH, **case["env"]}
    if "mounts" in case:
        mounts = [{"kind": item.kind, "target": item.target, **dict(item.options)} for item in runs[-1].mounts]
        assert mounts == case["mounts"]


def cases() -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", cases())
def test_build(case: dict[str, Any]) -> None:
    arguments = {"file": case.get("file", "Dockerfile"), **case.get("options", {})}
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            graph_of(case["text"], **arguments)
        error = caught.value
        assert (error.code, error.where and error.where.line) == (case["error"], case["line"]), error.message
        assert case.get("hint", "") in error.hint
        return
    graph = graph_of(case["text"], **arguments)
    if "steps" in case:
        assert [shown(node) for node in graph.nodes] == case["steps"]
    assert graph.target == case.get("target", len(graph.nodes) - 1)
    if "titles" in case:
        assert [node.title for node in graph.nodes] == case["titles"]
    if "stages" in case:
        assert [node.stage for node in graph.nodes] == case["stages"]
    if "spans" in case:
        assert [[node.span.line, node.span.end_line] for node in graph.nodes] == case["spans"]
    check_last(graph, case)
    check_config(graph.config, case.get("config", {}))


def test_unused_build_arguments_are_named() -> None:
    text = "ARG a\nFROM x\nARG b=1 c\n"
    given_names = ["a", "b", "c", "d", "http_proxy", "TARGETARCH", "SOURCE_DATE_EPOCH", "E"]
    assert unused_build_args(text, "Dockerfile", given_names) == ("d", "E")


def test_proxies_are_given_apart() -> None:
    assert proxy_args({"a": "1", "NO_PROXY": "x", "http_proxy": "y"}) == (("NO_PROXY", "x"), ("http_proxy", "y"))


def test_the_default_network_is_not_named_in_the_recipe() -> None:
    with pytest.raises(DefinitionError):
        graph_of("FROM a\nRUN b", network="nonsense")


def test_a_long_title_is_cut() -> None:
    title = graph_of(f"FROM a\nRUN {'x ' * 500}").nodes[1].title
    assert len(title) <= 100
    assert re.fullmatch(r"RUN (x )+x?\.\.\.|RUN (x )*x\.\.\.", title)


def test_a_thousand_stages_need_no_recursion() -> None:
    text = "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\nRUN x\n" for n in range(2000))
    assert len(graph_of(text).nodes) == 2001


KEYWORDS = "FROM RUN COPY ADD ARG ENV LABEL CMD ENTRYPOINT EXPOSE PORT VOLUME USER WORKDIR STOPSIGNAL HEALTHCHECK SHELL"
ARGUMENTS = """a|b c|a=b|$a|${a:-b}|["a"]|a AS b|--from=b a /c|--mount=target=/a b|<<E|80|CMD a|NONE|RUN a|'|"|b|SIGINT
|COPY --from=b a /c|--chown=$a b c|--mount=type=cache,target=x y"""
line = st.tuples(
    st.sampled_from([*KEYWORDS.split(), "ONBUILD"]), st.sampled_from(ARGUMENTS.split("|")) | st.text(max_size=8)
).map(" ".join)


def graph_or_problem(text: str) -> Graph | DefinitionError:
    try:
        return graph_of(text, file="Recipe")
    except DefinitionError as error:
        return error


@given(st.lists(line, max_size=8).map(lambda lines: "\n".join(["FROM a AS b", *lines])))
def test_any_recipe_is_a_graph_or_a_typed_error(text: str) -> None:
    graph = graph_or_problem(text)
    if isinstance(graph, DefinitionError):
        assert graph.where is not None
        return
    assert all(source < position for position, node in enumerate(graph.nodes) for source in node.inputs)
    assert 0 <= graph.target < len(graph.nodes)
    assert all(1 <= node.span.line <= node.span.end_line for node in graph.nodes)
