"""The checks: cases in a data file, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.app.check import Checked, check, check_text, refuse_findings
from boxwright.cli.main import main
from boxwright.errors import BoxwrightError, UsageError
from boxwright.frontends.recipe.checks.rules import BROKEN, NAMES, RULES, UNKNOWN, Choice
from boxwright.sources.ignore import IgnoreRules

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases/recipe/checks.yaml").read_text(encoding="utf-8"))
PAGE = Path(__file__).parents[3] / "docs/checks.md"


def checked(case: dict[str, Any]) -> Checked:
    ignored = IgnoreRules.parse(case["ignore"]).ignored if "ignore" in case else None
    asked = Choice(frozenset(case.get("skip", ())), frozenset(case.get("enable", ())))
    return check_text(case["text"], "Dockerfile", ignored, asked)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_check(case: dict[str, Any]) -> None:
    found = checked(case)
    shown = [(finding.rule, finding.span.line) for finding in found.findings]
    assert sorted(shown, key=lambda item: (item[1], item[0])) == [
        (rule, line) for rule, line in sorted(case["finds"], key=lambda item: (item[1], item[0]))
    ]
    if "hint" in case:
        assert any(case["hint"] in finding.hint for finding in found.findings)
    if "severity" in case:
        assert any(finding.severity == case["severity"] for finding in found.findings)
    if "failed" in case:
        assert found.failed is case["failed"]


def test_every_rule_has_a_case_and_a_line_in_the_documentation() -> None:
    shown = {rule for case in CASES for rule, _ in case["finds"]}
    assert shown == NAMES | {BROKEN, UNKNOWN}
    page = PAGE.read_text(encoding="utf-8")
    assert [rule.name for rule in RULES if f"| {rule.name} |" not in page] == []


def test_unknown_rules_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check(str(tmp_path), asked=Choice(skip=frozenset({"StageNameCasting"})))
    assert caught.value.code == "check.unknown-rule"
    assert "StageNameCasing" in caught.value.hint


def test_a_strict_recipe_is_refused(tmp_path: Path) -> None:
    refuse_findings(str(tmp_path), "Dockerfile", "FROM scratch\nMAINTAINER a\n")
    refuse_findings(str(tmp_path), "Dockerfile", "# check=error=true\nFROM scratch\n")
    with pytest.raises(BoxwrightError) as caught:
        refuse_findings(str(tmp_path), "Dockerfile", "# check=error=true\nFROM scratch\nMAINTAINER a\n")
    assert caught.value.code == "check.failed"
    assert caught.value.where is not None
    assert caught.value.where.line == 3


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM scratch AS App\n\nCOPY secret /\nFROM app\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    return path


def test_text(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(recipe.parent)]) == 0
    said = capsys.readouterr().out
    assert f"{recipe}:1:1: warning: " in said
    assert "(StageNameCasing)" in said
    assert "     3 | COPY secret /" in said
    assert said.endswith("0 errors, 2 warnings\n")
    assert main(["check", str(recipe.parent), "--error"]) == 1
    assert main(["check", str(recipe.parent), "--skip", "all", "--error"]) == 0


def test_json(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(recipe.parent), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["errors"], said["warnings"], said["failed"]) == (0, 2, False)
    assert [(item["rule"], item["line"]) for item in said["findings"]] == [
        ("StageNameCasing", 1),
        ("CopyIgnoredFile", 3),
    ]


def test_sarif(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(recipe.parent), "--format", "sarif"]) == 0
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == NAMES
    assert [result["ruleId"] for result in run["results"]] == ["StageNameCasing", "CopyIgnoredFile"]
    assert run["results"][1]["locations"][0]["physicalLocation"]["region"]["startLine"] == 3
