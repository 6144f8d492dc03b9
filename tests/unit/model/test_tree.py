"""Tree objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.model.tree import (
    Entry,
    decode_directory,
    decode_xattrs,
    encode_directory,
    encode_xattrs,
)

names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)
plain = st.builds(
    Entry,
    st.sampled_from("flcbp"),
    names,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.integers(-(2**33), 2**33),
    st.integers(0, 2**50),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.just(""),
)
directories = st.lists(plain, unique_by=lambda entry: entry.name)


@given(directories)
def test_round_trip(entries: list[Entry]) -> None:
    decoded = decode_directory(encode_directory(entries).data)
    assert sorted(decoded) == sorted(entries)
    assert [entry.name.encode() for entry in decoded] == sorted(entry.name.encode() for entry in entries)


@given(directories)
def test_order_does_not_count(entries: list[Entry]) -> None:
    assert encode_directory(entries) == encode_directory(reversed(entries))


@given(plain)
def test_times_count_in_full_only(entry: Entry) -> None:
    before, after = encode_directory([entry]), encode_directory([entry._replace(mtime=entry.mtime + 1)])
    assert before.content == after.content
    assert before.full != after.full


@dataclass(frozen=True)
class Other:
    """Another value for a field."""

    field: str
    value: Any


@pytest.mark.parametrize(
    "other",
    [
        Other("kind", "l"),
        Other("name", "b"),
        Other("mode", 0o600),
        Other("uid", 7),
        Other("gid", 7),
        Other("size", 7),
        Other("data", "y"),
        Other("xattrs", "user.a=00"),
    ],
    ids=lambda other: other.field,
)
def test_every_other_field_counts_in_both(other: Other) -> None:
    entry = Entry("f", "a", 0o644, 0, 0, 5, 1, "x")
    before, after = encode_directory([entry]), encode_directory([entry._replace(**{other.field: other.value})])
    assert before.content != after.content
    assert before.full != after.full


def test_damaged_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="not a directory object"):
        decode_directory(b"f\0a\0")


@given(st.dictionaries(st.from_regex(r"[a-z]+\.[a-z.=]+", fullmatch=True), st.binary()))
def test_attributes_round_trip(pairs: dict[str, bytes]) -> None:
    assert decode_xattrs(encode_xattrs(list(pairs.items()))) == sorted(pairs.items())
