"""Modes as chmod(1) has them: cases in a data file, and coreutils as a judge."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.model.mode import parse_mode

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "model" / "mode.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['text']} of {case['of']}")
def test_modes(case: dict[str, Any]) -> None:
    if case["to"] is None:
        with pytest.raises(ValueError, match="no mode"):
            parse_mode(case["text"])
        return
    changed = parse_mode(case["text"])(int(case["of"], 8), case.get("directory", False))
    assert oct(changed) == oct(int(case["to"], 8))


clauses = st.tuples(
    st.sampled_from(["u", "g", "o", "a", "ug", "go"]),
    st.sampled_from("+-="),
    st.text("rwxX", max_size=3) | st.sampled_from("ugo"),
).map("".join)


@settings(max_examples=30)
@given(st.lists(clauses, min_size=1, max_size=3).map(",".join), st.integers(0, 0o777))
def test_chmod_agrees(tmp_path_factory: pytest.TempPathFactory, text: str, mode: int) -> None:
    file = tmp_path_factory.mktemp("mode") / "file"
    file.touch()
    file.chmod(mode)
    subprocess.run(["chmod", "--", text, file], check=True)
    assert oct(file.stat().st_mode & 0o7777) == oct(parse_mode(text)(mode, False))
