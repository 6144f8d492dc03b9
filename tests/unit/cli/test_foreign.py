"""Other builders' flags, in a data file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.cli import foreign
from boxwright.cli.build import own_words
from boxwright.cli.foreign import adapt
from boxwright.cli.main import parser_for
from boxwright.errors import UsageError

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "cli" / "foreign.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["given"])
def test_flags(case: dict[str, Any]) -> None:
    given = case["given"].split()
    if "error" in case:
        with pytest.raises(UsageError) as caught:
            adapt(given, parser_for("build"))
        assert caught.value.code == case["error"]
        assert case.get("hint", "") in caught.value.hint
        return
    found = adapt(given, parser_for("build"))
    assert " ".join(found.words) == case["words"]
    wanted = case.get("notes", [])
    assert len(found.notes) == len(wanted)
    assert all(text in note for text, note in zip(wanted, found.notes, strict=True))


def test_our_own_words_are_left_alone() -> None:
    given = [".", "-t", "a", "--build-arg", "b=c"]
    assert own_words(given, parser_for("build")) is given


def test_each_flag_is_answered_in_one_way() -> None:
    table = tomllib.loads((Path(foreign.__file__).parent / "foreign.toml").read_text(encoding="utf-8"))
    names = [name for part in table.values() for name in part]
    assert len(names) == len(set(names))
    known = {option for action in parser_for("build")._actions for option in action.option_strings}
    assert not known & set(names)
    assert all(text for part in ("instead", "instead-with-value") for text in table[part].values())
