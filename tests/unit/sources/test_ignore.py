"""`.dockerignore`: cases in data files, and what holds for any rules."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from boxwright.errors import DefinitionError
from boxwright.sources.ignore import IgnoreRules, glob_to_regex

CASES = Path(__file__).parents[2] / "cases" / "ignore"
BUDGET_SECONDS = 0.3  # ten times what it takes, so that a busy machine passes

names = st.text("ab.*", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
components = st.sampled_from(["a", "b", "*", "**", "a*", "*a*b", "?", "[ab]", "**b"])
patterns = st.lists(components, min_size=1, max_size=5).map("/".join)
lines = st.lists(st.tuples(st.sampled_from(["", "!"]), patterns).map("".join), max_size=5).map("\n".join)


def cases(file: str) -> list[Any]:
    loaded: list[Any] = yaml.safe_load((CASES / file).read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["rules"].encode("unicode_escape").decode() or "none") for case in loaded]


@pytest.mark.parametrize("case", cases("match.yaml"))
def test_paths_are_left_out_or_kept(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            IgnoreRules.parse(case["rules"])
        assert caught.value.code == "ignore.pattern"
        assert caught.value.where is not None
        assert caught.value.where.line == case["error"]
        return
    rules = IgnoreRules.parse(case["rules"])
    assert [path for path in case.get("out", ()) if not rules.ignored(path)] == []
    assert [path for path in case.get("kept", ()) if rules.ignored(path)] == []


@pytest.mark.parametrize("case", cases("below.yaml"))
def test_closed_directories_are_not_entered(case: dict[str, Any]) -> None:
    rules = IgnoreRules.parse(case["rules"])
    assert [path for path in case.get("open", ()) if not rules.may_hold_kept(path)] == []
    assert [path for path in case.get("closed", ()) if rules.may_hold_kept(path)] == []


@given(lines, paths)
def test_what_is_kept_lies_in_directories_that_are_entered(text: str, path: str) -> None:
    assume(problem_of(text) is None)
    rules = IgnoreRules.parse(text)
    parent = path.rpartition("/")[0]
    if parent and not rules.ignored(path):
        assert not rules.ignored(parent) or rules.may_hold_kept(parent)


@given(lines, paths, paths)
def test_the_order_of_questions_does_not_matter(text: str, one: str, other: str) -> None:
    assume(problem_of(text) is None)
    first, second = IgnoreRules.parse(text), IgnoreRules.parse(text)
    assert (first.ignored(one), first.ignored(other)) == (second.ignored(other), second.ignored(one))[::-1]


def problem_of(text: str) -> DefinitionError | None:
    try:
        rules = IgnoreRules.parse(text)
    except DefinitionError as error:
        return error
    rules.ignored("a/b.c")
    rules.may_hold_kept("a/b.c")
    return None


@given(st.text() | st.text("ab/*?[]!-^\\\n"))
def test_any_text_is_rules_or_a_typed_error(text: str) -> None:
    problem = problem_of(text)
    assert problem is None or problem.code == "ignore.pattern"


def simple_match(pattern: list[str], path: list[str]) -> bool:
    """What whole components and ``**`` mean, written as simply as can be."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(simple_match(pattern[1:], path[start:]) for start in range(len(path) + (pattern == ["**"])))
    return (
        bool(path)
        and re.fullmatch(glob_to_regex(pattern[0]), path[0]) is not None
        and simple_match(pattern[1:], path[1:])
    )


@given(st.lists(st.sampled_from(["a", "*", "**", "a*", "*a*b*", "*b*a"]), min_size=1, max_size=5), paths)
def test_a_pattern_means_what_it_says(pattern: list[str], path: str) -> None:
    wanted = [name for number, name in enumerate(pattern) if name != "**" or pattern[number - 1 : number] != ["**"]]
    parts = path.split("/")
    prefixes = [parts[:end] for end in range(1, len(parts) + 1)]
    expected = any(
        simple_match(wanted, prefix) and (wanted[-1] != "**" or simple_match([*wanted, "*"], prefix))
        for prefix in prefixes
    )
    assert IgnoreRules.parse("/".join(pattern)).ignored(path) is expected


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "/".join(["**/*a"] * 40), "**/" * 40 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    rules = IgnoreRules.parse(pattern)
    start = time.process_time()
    assert not rules.ignored("a" * 200)
    assert not rules.ignored("a/" * 39 + "c")
    assert time.process_time() - start < BUDGET_SECONDS


@given(st.text("ab*?[]^-\\/", max_size=8))
def test_any_glob_is_a_regex_or_a_value_error(pattern: str) -> None:
    try:
        regex = glob_to_regex(pattern)
    except ValueError:
        return
    re.compile(regex)


def test_ten_thousand_paths_are_quick() -> None:
    rules = IgnoreRules.parse("node_modules\n**/*.pyc\n*.log\n!keep.log\n/dist/\ndocs/**/*.md")
    many = [f"src/module{number % 100}/package{number % 7}/file{number}.py" for number in range(10_000)]
    start = time.process_time()
    assert not any(map(rules.ignored, many))
    assert time.process_time() - start < BUDGET_SECONDS
