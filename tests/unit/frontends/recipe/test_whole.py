"""Whole recipes: what becomes of their text in the configuration that Docker shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph
from boxwright.frontends.recipe.state import DEFAULT_PATH
from boxwright.images.config import image_config
from boxwright.model.digest import Digest
from boxwright.model.image import Image, ImageConfig, Snapshot
from boxwright.model.span import Span
from boxwright.model.tree import Manifest
from boxwright.ports import ResolvedBase

CASES = Path(__file__).parents[3] / "cases" / "recipe" / "whole.yaml"
ZERO = Digest("sha256:" + "0" * 64)


class NoBases:
    """Only FROM scratch stands in the cases."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        raise AssertionError(name)

    def recipe(self, name: str) -> tuple[str, str]:
        raise AssertionError(name)


def as_docker_shows(config: ImageConfig) -> dict[str, Any]:
    image = Image(ZERO, config, Snapshot(ZERO, (), Manifest(ZERO, ZERO), 0), 0, 0)
    shown: dict[str, Any] = json.loads(image_config(image, []))["config"]
    shown["Env"] = [item for item in shown["Env"] if item != f"PATH={DEFAULT_PATH}"]
    if shown.get("WorkingDir") == "/":
        del shown["WorkingDir"]
    shown.pop("ArgsEscaped", None)
    return {name: value for name, value in shown.items() if value}


def cases() -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", cases())
def test_whole(case: dict[str, Any]) -> None:
    options = RecipeOptions(build_args=case.get("args", {}))
    if "error" in case:
        with pytest.raises(DefinitionError) as caught:
            build_graph(case["text"], "Dockerfile", resolver=NoBases(), options=options)
        assert caught.value.code == case["error"]
        assert caught.value.where is not None
        return
    graph = build_graph(case["text"], "Dockerfile", resolver=NoBases(), options=options)
    assert as_docker_shows(graph.config) == case["config"]
