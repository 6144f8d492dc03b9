"""The canonical encoding: injective, and held still by a golden file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.model.canonical import Value, encode
from boxwright.model.keys import key_of

GOLDEN = Path(__file__).parents[2] / "golden" / "keys.json"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner).map(tuple),
    max_leaves=12,
)


def _typed(value: Value) -> object:
    """A value with its types, since ``True == 1`` and ``"" == ""`` hide them."""
    if isinstance(value, tuple):
        return ("tuple", tuple(_typed(item) for item in value))
    return (type(value).__name__, value)


@given(values, values)
def test_different_values_encode_differently(left: Value, right: Value) -> None:
    assert (encode(left) == encode(right)) == (_typed(left) == _typed(right))


def test_framing() -> None:
    assert encode(("ab", "c")) != encode(("a", "bc"))
    assert encode((("a",), "b")) != encode(("a", ("b",)))


def test_surrogates_are_encoded() -> None:
    assert encode("\udcff") == b"s1:\xff"


def test_unknown_types_are_refused() -> None:
    with pytest.raises(TypeError):
        encode(1.5)  # type: ignore[arg-type]


def _tuples(value: object) -> Value:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    assert value is None or isinstance(value, bool | int | str)
    return value


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text(encoding="utf-8")), ids=lambda case: str(case["name"]))
def test_golden_keys(case: dict[str, object]) -> None:
    fields = tuple((str(name), _tuples(value)) for name, value in case["fields"])  # type: ignore[attr-defined]
    assert key_of(str(case["kind"]), fields) == case["key"]
