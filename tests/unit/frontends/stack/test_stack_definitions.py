"""Stacks: cases in data files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.errors import DefinitionError
from boxwright.frontends.stack.compose import read_compose
from boxwright.frontends.stack.composemounts import ComposeWorld
from boxwright.frontends.stack.read import read_stack
from boxwright.frontends.stack.schema import json_schema

DATA = Path(__file__).parents[3] / "cases" / "stack"
CASES = yaml.safe_load((DATA / "definitions.yaml").read_text("utf-8"))
COMPOSE = yaml.safe_load((DATA / "compose.yaml").read_text("utf-8"))
THERE = {"./web", "./conf", "./token", "conf", "images/redis"}


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


@pytest.mark.parametrize("case", COMPOSE, ids=[case["name"] for case in COMPOSE])
def test_a_compose_file_becomes_a_stack_and_says_what_it_leaves_out(case: dict[str, Any]) -> None:
    def read(path: str) -> str:
        assert path == "./token"
        return "# a comment\nONE='1 x'\nexport TWO=2\n"

    world = ComposeWorld(locate, read, {"A": "one", "EMPTY": ""}, ("debug",), "", "podman", "project")
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            read_compose(case["text"], "compose.yaml", world)
        error = caught.value
        assert error.where is not None
        assert [error.code, error.where.line, error.where.column] == case["error"], error.message
        assert case.get("hint", "") in error.hint
    else:
        stack = read_compose(case["text"], "compose.yaml", world)
        assert {path: at(stack, path) for path in case["stack"]} == case["stack"]
        expected = case.get("notes", [])
        assert len(stack.notes) == len(expected), stack.notes
        for note, text in zip(stack.notes, expected, strict=True):
            assert note.startswith(f"compose.yaml:{text}")


def test_the_schema_describes_each_key() -> None:
    schema: Any = json_schema()
    container = schema["$defs"]["ContainerPart"]["properties"]
    assert {"build", "replicas", "healthcheck", "volume"} <= set(container)
    assert schema["$defs"]["ContainerPart"]["additionalProperties"] is False
