"""Versions and dependencies, from data files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import FetchError
from boxwright.sources.alpine.index import parse_dependency, parse_index
from boxwright.sources.alpine.resolve import resolve
from boxwright.sources.alpine.versions import compare, parse_version, satisfies

CASES = Path(__file__).parents[3] / "cases/alpine"
VERSIONS: dict[str, list[str]] = yaml.safe_load((CASES / "versions.yaml").read_text())
RESOLVE: list[dict[str, Any]] = yaml.safe_load((CASES / "resolve.yaml").read_text())


@pytest.mark.parametrize("fact", VERSIONS["order"])
def test_order(fact: str) -> None:
    one, operator, other = fact.split()
    assert {"<": compare(one, other) < 0, ">": compare(one, other) > 0, "=": compare(one, other) == 0}[operator]
    assert compare(other, one) == -compare(one, other)


@pytest.mark.parametrize("fact", VERSIONS["fits"])
def test_fits(fact: str) -> None:
    assert satisfies(*fact.split())


@pytest.mark.parametrize("fact", VERSIONS["fits-not"])
def test_fits_not(fact: str) -> None:
    assert not satisfies(*fact.split())


numbers = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=3).map(".".join)
suffixes = st.sampled_from(["", "_alpha", "_rc2", "_p1", "a", "_git3", "b_rc1"])
versions = st.builds("{}{}{}".format, numbers, suffixes, st.sampled_from(["", "-r0", "-r12"]))


@given(versions, versions, versions)
def test_a_total_order(one: str, two: str, three: str) -> None:
    assert parse_version(one)
    assert compare(one, one) == 0
    assert compare(one, two) == -compare(two, one)
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0


@pytest.mark.parametrize("case", RESOLVE, ids=lambda case: case["name"])
def test_resolve(case: dict[str, Any]) -> None:
    stanzas = []
    for name, fields in case["index"].items():
        package, version = name.split()
        lines = {"C": "Q1x", "P": package, "V": version, "A": "noarch", **fields}
        stanzas.append("".join(f"{letter}:{text}\n" for letter, text in lines.items()))
    packages = list(parse_index("\n".join(stanzas), "http://mirror/main", "x86_64"))
    world = [parse_dependency(text) for text in case["world"]]
    if "code" in case:
        with pytest.raises(FetchError) as caught:
            resolve(packages, world)
        assert caught.value.code == case["code"]
        assert case["says"] in caught.value.message
        return
    assert [str(package) for package in resolve(packages, world)] == case["result"]
    assert sorted(map(str, resolve(packages[::-1], world))) == sorted(case["result"])


@pytest.mark.parametrize(
    "stanza",
    [
        "P:../x\nV:1-r0\n",
        "P:a/b\nV:1-r0\n",
        "P:a\nV:1/../2\n",
        "P:a\nV:1-r0\nS:many\n",
        f"P:a\nV:1\nt:{10**30}\n",
        "V:1\n",
    ],
)
def test_indexes_that_are_refused(stanza: str) -> None:
    """What becomes a file's name or a number is checked, signed or not."""
    with pytest.raises(FetchError) as caught:
        list(parse_index(stanza + "A:noarch\n", "http://mirror/main", "x86_64"))
    assert caught.value.code == "base.index"


def test_another_architecture() -> None:
    text = "P:a\nV:1\nA:s390x\n\nP:b\nV:1\nA:noarch\n\nP:c\nV:1\nA:x86_64\n"
    assert [package.name for package in parse_index(text, "http://mirror/main", "x86_64")] == ["b", "c"]
