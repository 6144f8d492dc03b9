"""Stacks: cases in data files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.errors import DefinitionError
from boxwright.frontends.stack.read import read_stack
from boxwright.frontends.stack.schema import json_schema

CASES = yaml.safe_load((Path(__file__).parents[3] / "cases" / "stack" / "definitions.yaml").read_text("utf-8"))
THERE = {"./web", "./conf", "conf", "images/redis"}


def locate(directory: str, text: str) -> str | None:
    assert directory == "."
    return text if text in THERE else None


def plain(value: object) -> object:
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def at(value: Any, path: str) -> object:
    for step in path.split("."):
        value = value[int(step)] if step.isdecimal() else getattr(value, step)
    return plain(value)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_definition_becomes_a_stack_or_an_error_with_its_place(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            read_stack(case["text"], "autopilot.yaml", locate)
        error = caught.value
        assert error.where is not None
        assert [error.code, error.where.line, error.where.column] == case["error"], error.message
        assert case.get("hint", "") in error.hint
    else:
        stack = read_stack(case["text"], "autopilot.yaml", locate)
        assert {path: at(stack, path) for path in case["stack"]} == case["stack"]


def test_the_schema_describes_each_key() -> None:
    schema: Any = json_schema()
    container = schema["$defs"]["ContainerPart"]["properties"]
    assert {"build", "replicas", "healthcheck", "volume"} <= set(container)
    assert schema["$defs"]["ContainerPart"]["additionalProperties"] is False
