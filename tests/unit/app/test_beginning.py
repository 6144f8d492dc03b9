"""`init`: what is found out about projects of each language. The cases are data: files, and lines of the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.app.manifest.beginning import look_at, manifest_for
from boxwright.frontends.manifest.render import used_names

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "manifest" / "projects.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_first_manifest(case: dict[str, Any], tmp_path: Path) -> None:
    for name, text in case["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = manifest_for(look_at(str(tmp_path)), "Shop")
    written = yaml.safe_load(text)
    assert {key: written.get(key) for key in case["manifest"]} == case["manifest"], text
    found = next((line.removeprefix("# found: ") for line in text.splitlines() if line.startswith("# found: ")), "")
    assert found == case.get("found", ""), text
    assert not used_names(text)
