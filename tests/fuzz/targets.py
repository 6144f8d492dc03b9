"""What is fuzzed. Each target takes any text and lets nothing out but the typed error, which is caught here.

What is imported here is instrumented, so this module is imported late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from boxwright.app.check import check_text
from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.checks.rules import Choice
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph
from boxwright.frontends.recipe.words import expand, expand_words
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.ports import ResolvedBase
from boxwright.sources.ignore import IgnoreRules

CASES = Path(__file__).parents[1] / "cases"
HERE = Span("Dockerfile", 1)
ENV = {"v": "value", "e": "", "p": "a/b/c.tar.gz", "s": "one  two", "l": "a" * 200}
ALL = Choice(ask=frozenset({"all"}))


class Bases:
    """Every name is a base; one has instructions for its children."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        triggers = ("RUN <<E\nx\nE", "COPY . /a/", name) if name.startswith("on") else ()
        return ResolvedBase(Base("registry", name, platform), ImageConfig("amd64", onbuild=triggers), name)

    def recipe(self, name: str) -> tuple[str, str]:
        return f"FROM a AS {name}", f"{name}/Recipe"


def parser(text: str) -> None:
    """A recipe becomes a graph, and is checked."""
    for file in ("Recipe", "Dockerfile"):
        try:
            graph = build_graph(text, file, resolver=Bases(), options=RecipeOptions(build_args={"a": "b"}))
        except DefinitionError as error:
            if error.where is None:
                raise AssertionError("an error without a place") from error
            continue
        for position, node in enumerate(graph.nodes):
            if any(number >= position for number in node.inputs):
                raise AssertionError("a node before its input")
    for finding in check_text(text, "Dockerfile", None, ALL).findings:
        if not 1 <= finding.span.line <= text.count("\n") + 1:
            raise AssertionError("a finding beside the text")


def words(text: str) -> None:
    """Variables, quotes and patterns."""
    for escape in "\\`":
        for quotes in (True, False):
            try:
                expand(text, ENV, HERE, escape, quotes=quotes)
            except DefinitionError:
                continue
        try:
            expand_words(text, ENV, HERE, escape)
        except DefinitionError:
            continue


def ignore(text: str) -> None:
    """Rules, a line with a slash alone, then paths."""
    rules, _, paths = text.partition("\n/\n")
    try:
        found = IgnoreRules.parse(rules)
    except DefinitionError:
        return
    for path in [*paths.split("\n")[:8], "a/b/c", "a" * 60, "a/" * 30 + "b"]:
        if path:
            found.ignored(path)
            found.may_hold_kept(path)


TARGETS: Mapping[str, Callable[[str], None]] = {"parser": parser, "words": words, "ignore": ignore}

WORDS: Mapping[str, str] = {
    "parser": (
        "FROM RUN COPY ADD ARG ENV LABEL CMD ENTRYPOINT EXPOSE PORT DBASE VOLUME USER WORKDIR STOPSIGNAL HEALTHCHECK "
        "SHELL ONBUILD MAINTAINER AS NONE --from= --mount=type= --chown= --chmod= --exclude= --parents --link "
        "--network= <<E <<-'E' ${a:-b} [\" \"] scratch escape=` check=skip= syntax= validate target= source= id= 80/tcp"
        " mysql"
    ),
    "words": "${v ${n:- ${p# ${p## ${p% ${p%% ${p/ ${p// } :+ :? $v $l $$ ' \" \\ ` * ?",
    "ignore": "** */ !** ! [a-z] [^a] \\* ? /../ # a/b .dockerignore",
}
"""What the fuzzer may put in: words between spaces."""


def seeds(target: str) -> Iterator[str]:
    """Texts to begin with: the cases of the data files."""
    folder, files = {
        "parser": ("recipe", ("parse.yaml", "build.yaml", "whole.yaml", "checks.yaml")),
        "words": ("recipe", ("words.yaml", "expansion.yaml", "documents.yaml")),
        "ignore": ("ignore", ("match.yaml", "below.yaml")),
    }[target]
    for file in files:
        for case in yaml.safe_load((CASES / folder / file).read_text(encoding="utf-8")):
            text = case.get("text", case.get("rules", ""))
            yield text if isinstance(text, str) else "\n".join(map(str, text))
