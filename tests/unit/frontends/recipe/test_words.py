"""Variables and quotes: cases in data files, and what holds for any text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.blanks import BLANK
from boxwright.frontends.recipe.words import expand, expand_words
from boxwright.model.span import Span

CASES = Path(__file__).parents[3] / "cases" / "recipe"
HERE = Span("Dockerfile", 7)
ENV = {"v": "value", "e": "", "p": "a/b/c.tar.gz", "s": "one  two"}


def cases(file: str) -> list[Any]:
    loaded: list[Any] = yaml.safe_load((CASES / file).read_text(encoding="utf-8"))
    return [pytest.param(case, id=repr(case["text"])) for case in loaded]


@pytest.mark.parametrize("case", cases("words.yaml"))
def test_words(case: dict[str, Any]) -> None:
    escape = case.get("escape", "\\")
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            expand(case["text"], ENV, HERE, escape)
        assert case["error"] in caught.value.message
        assert (caught.value.code, caught.value.where) == ("recipe.substitution", HERE)
        return
    assert expand(case["text"], ENV, HERE, escape) == case["word"]
    if "words" in case:
        assert expand_words(case["text"], ENV, HERE, escape) == case["words"]


@pytest.mark.parametrize("case", cases("expansion.yaml"))
def test_expansion(case: dict[str, Any]) -> None:
    escape = case.get("escape", "\\")
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            expand(case["text"], ENV, HERE, escape)
        assert (caught.value.code, caught.value.where) == (case["error"], HERE)
        return
    if "words" in case:
        assert expand_words(case["text"], ENV, HERE, escape) == case["words"]
    else:
        assert expand(case["text"], ENV, HERE, escape) == case["word"]


@pytest.mark.parametrize("case", cases("documents.yaml"))
def test_documents(case: dict[str, Any]) -> None:
    assert expand(case["text"], ENV, HERE, quotes=False) == case["word"]


def problem_of(text: str, *, quotes: bool) -> DefinitionError | None:
    try:
        expand(text, ENV, HERE, quotes=quotes)
        expand_words(text, ENV, HERE)
    except DefinitionError as error:
        return error
    return None


@given(st.text("av$e{}:-+?#%/*'\"\\` ", max_size=30), st.booleans())
def test_any_text_is_expanded_or_a_typed_error(text: str, quotes: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
    problem = problem_of(text, quotes=quotes)
    assert problem is None or problem.code == "recipe.substitution"


@given(st.text(st.characters(exclude_characters="$'\"\\`", exclude_categories=["Cs"])))
def test_ordinary_text_stays(text: str) -> None:
    assert expand(text, ENV, HERE) == text
    assert expand_words(text, ENV, HERE) == re.findall(f"[^{BLANK}]+", text)


@given(st.text())
def test_a_value_is_not_looked_at_again(value: str) -> None:
    assert expand('"$x"', {"x": value}, HERE) == value


def test_deep_nesting_is_a_typed_error() -> None:
    with pytest.raises(DefinitionError):
        expand("${n:-" * 5000, ENV, HERE)


def test_values_that_grow_without_end_are_a_typed_error() -> None:
    half = "x" * (1 << 20)
    assert expand("$a", {"a": half}, HERE) == half
    with pytest.raises(DefinitionError) as caught:
        expand("$a$a", {"a": half}, HERE)
    assert caught.value.code == "recipe.substitution"
