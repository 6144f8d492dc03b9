"""What names a git repository, in a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.model.giturl import GitUrl, parse_git_url, redacted, without_password

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "model" / "giturl.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"])
def test_names(case: dict[str, Any]) -> None:
    wanted = dict(case)
    found = parse_git_url(wanted.pop("text"))
    assert found == (None if wanted["remote"] is None else GitUrl(**wanted))


@given(st.text(alphabet="abc:/@#?=.-git\n ", max_size=40))
def test_whatever_it_is_no_option(text: str) -> None:
    found = parse_git_url(text)
    assert found is None or not found.remote.startswith("-")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://a:b@c/d.git", "https://c/d.git"),
        ("https://token@c/d.git", "https://c/d.git"),
        ("https://c/d@e.git", "https://c/d@e.git"),
        ("ssh://git@c/d", "ssh://git@c/d"),
        ("ssh://git:b@c/d", "ssh://git@c/d"),
        ("git@c:d", "git@c:d"),
        ("git:https://a:b@c/d", "git:https://c/d"),
        ("HTTPS://a:b@x@c/d", "HTTPS://c/d"),
        ("ftp://a:b@c/d", "ftp://a@c/d"),
        ("one https://a:b@c/d, two https://t@e/f?x=y@z", "one https://c/d, two https://e/f?x=y@z"),
    ],
)
def test_passwords_are_not_kept(text: str, plain: str) -> None:
    assert without_password(text) == plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a:b@c/d", "https://***@c/d"),
        ("https://a@c/d", "https://***@c/d"),
        ("ssh://git@c/d ssh://a:b@c/d", "ssh://git@c/d ssh://a:***@c/d"),
        ("ADD https://:token@c/d https://x:y@z/ /e", "ADD https://***@c/d https://***@z/ /e"),
        ("https://c/d@e:f", "https://c/d@e:f"),
        ("https://a:b@x@c/d HTTP://a:b@c", "https://***@c/d HTTP://***@c"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
