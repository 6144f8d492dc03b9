"""The parser: cases in a data file, and what holds for any text."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.parser import parse
from boxwright.model.span import Span

CASES = Path(__file__).parents[3] / "cases" / "recipe" / "parse.yaml"
BUDGET_SECONDS = 1.0  # asked for: 0.2 (bench); this is against quadratic time, on a busy machine too

PIECES = [
    "FROM a\n",
    "RUN ",
    "COPY ",
    "ADD ",
    "ONBUILD ",
    "ENV ",
    "<<E",
    "<<-'E'",
    "\nE\n",
    "\tE\n",
    "\\\n",
    "\\",
    "\n",
]
PIECES += [
    " ",
    "#",
    "--a",
    "--from=x",
    "# escape=`\n",
    "`\n",
    '["a"]',
    "[",
    '"',
    "'",
    "x",
    "\r\n",
    "\u2028",
    "\x0b",
    "$",
]
pieces = st.sampled_from(PIECES)
texts = st.lists(pieces, max_size=25).map("".join) | st.text()


def cases() -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", cases())
def test_parse(case: dict[str, Any]) -> None:
    file = case.get("file", "Dockerfile")
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            parse(case["text"], file)
        error = caught.value
        assert (error.code, error.where and error.where.line) == (case["error"], case["line"])
        assert case.get("hint", "") in error.hint
        return
    recipe = parse(case["text"], file)
    found = recipe.instructions
    assert [[item.keyword, item.rest, item.span.line, item.span.end_line] for item in found] == case["is"]
    if "columns" in case:
        assert [item.span.column for item in found] == case["columns"]
    if "gaps" in case:
        assert [item.gap for item in found] == case["gaps"]
    if "above" in case:
        assert [list(item.above) for item in found] == case["above"]
    if "directives" in case:
        assert dict(recipe.directives) == case["directives"]
    if "flags" in case:
        assert [[flag.name, flag.value] for flag in found[0].flags] == case["flags"]
    if "documents" in case:
        documents = [[item.name, item.expand, item.chomp, item.text] for item in found[0].heredocs]
        assert documents == case["documents"]


def spans_of(text: str) -> list[Span]:
    """Of the instructions, or of the error: each has one."""
    try:
        return [item.span for item in parse(text, "Recipe").instructions]
    except DefinitionError as error:
        return [error.where] if error.where else [Span("", 0)]


@given(texts)
@example("FROM a\nRUN <<E\n")
@example("\\")
@example("ONBUILD \u2028")
@example("[" * 5000)
@example("RUN " + "[" * 5000)
def test_any_text_is_a_recipe_or_a_typed_error(text: str) -> None:
    lines = text.split("\n")
    for span in spans_of(text):
        assert 1 <= span.line <= span.end_line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1


@given(texts)
def test_instructions_stand_in_order_and_apart(text: str) -> None:
    spans = spans_of(text)
    assert all(before.end_line < after.line for before, after in pairwise(spans))


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo a\n" * 10_000,
        "RUN a \\\n" * 10_000,
        "RUN <<E\n" + "x\n" * 10_000 + "E\n",
        "COPY --link " + "a " * 50_000,
    ],
    ids=["instructions", "continuation", "document", "words"],
)
def test_time_grows_with_the_text(text: str) -> None:
    start = time.process_time()
    parse(text, "Dockerfile")
    assert time.process_time() - start < BUDGET_SECONDS
