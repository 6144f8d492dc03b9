"""The shape of the source: which room imports which, who prints, how long a function may be."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "boxwright"
ROOMS = {"frontends", "solver", "steps", "sources", "sandbox", "store", "images", "repositories", "engines", "deploy"}
LEVELS = [{"model"}, {"errors"}, {"events", "files"}, {"ports"}, ROOMS, {"app"}, {"cli"}]
HEIGHT = {room: height for height, rooms in enumerate(LEVELS) for room in rooms}
MAY_USE_SIBLING = {("repositories", "images"), ("engines", "images")}  # writers share the helpers of images
LONGEST_FUNCTION = 60
MODULES = sorted(SOURCE.rglob("*.py"))
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_names(path: Path) -> list[str]:
    names = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write the whole name instead of a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@each_module
def test_imports_point_one_way(path: Path) -> None:
    here = room_of(path)
    if here in {"__init__", "__main__"}:
        return
    assert here in HEIGHT, f"{here} is a new room: give it a level in this test and a line in docs/architecture.md"
    for name in imported_names(path):
        root, _, rest = name.partition(".")
        there = rest.split(".")[0]
        if root != "boxwright" or there == here or there not in HEIGHT or (here, there) in MAY_USE_SIBLING:
            continue
        assert HEIGHT[there] < HEIGHT[here], f"{path}: {here} must not import {there}"


@each_module
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    # A forked child of the sandbox must end without running its parent's clean-up: os._exit is for it alone.
    forbidden = {"cli": set(), "sandbox": {"print", "sys.exit", "exit"}}.get(
        room_of(path), {"print", "sys.exit", "exit", "os._exit"}
    )
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in forbidden, f"{path}:{node.lineno}: {ast.unparse(node.func)}()"


@each_module
def test_modules_say_what_they_are_for_and_functions_stay_short(path: Path) -> None:
    assert ast.get_docstring(parse(path)), f"{path} has no docstring"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length < LONGEST_FUNCTION, f"{path}:{node.lineno}: {node.name} is {length} lines long"


def test_the_model_needs_nothing_but_the_standard_library() -> None:
    third_party = {"yaml", "jinja2", "msgspec", "zstandard", "rich"}
    for path in (SOURCE / "model").rglob("*.py"):
        assert not {name.partition(".")[0] for name in imported_names(path)} & third_party, path
