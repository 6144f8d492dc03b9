"""Validation stages: they gate the image, run beside it, are cached like others, and are reported as JUnit XML."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration

Context = Callable[..., Path]

# What the schema that continuous integration servers read (Jenkins xUnit, junit-10) allows of what we write.
ALLOWED = {
    "testsuites": {"name", "tests", "failures", "time"},
    "testsuite": {"name", "tests", "failures", "skipped", "errors", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
CHILDREN = {"testsuites": {"testsuite"}, "testsuite": {"testcase"}, "testcase": {"failure", "skipped", "system-out"}}


def recipe(base: Path, check: str, mark: str = "# validate") -> str:
    return (
        f"FROM tar:{base} AS base\nRUN echo {time.time_ns()} > /made\n"
        f"{mark}\nFROM base AS test\nRUN test -s /made\nRUN {check}\n"
        "FROM base\nRUN echo image > /image\n"
    )


def report(file: Path) -> ET.Element:
    """The report's root; every element and attribute in it is one of the schema's."""
    root = ET.fromstring(file.read_bytes())
    for element in root.iter():
        assert set(element.attrib) <= ALLOWED[element.tag], element.tag
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite)
        for kind, tag in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.attrib[kind]) == len(suite.findall(f"testcase/{tag}"))
    assert root.tag == "testsuites"
    return root


def test_a_failing_validation_leaves_no_image(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(recipe(busybox_base, "echo 'a \\033[1mcolour'; sleep 1; exit 3"))
    out = tmp_path / "out.tar"
    done = boxwright(
        "build",
        place,
        "-t",
        "gated:1",
        "-o",
        f"tar:{out}",
        "--junit",
        tmp_path / "r.xml",
        "--iidfile",
        tmp_path / "i",
        status=1,
    )
    assert "[step.failed]" in done.err
    assert "validate test" in done.err
    assert not out.exists()
    assert not (tmp_path / "i").exists()
    assert "gated:1" not in boxwright("images", "--names").out
    suite = report(tmp_path / "r.xml")[0]
    assert suite.attrib["name"] == "test"
    assert [case.attrib["name"][:8] for case in suite] == ["RUN test", "RUN echo"]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert "colour" in failure.text
    assert float(suite[1].attrib["time"]) >= 1


def test_a_passing_validation_is_not_in_the_image(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(recipe(busybox_base, "touch /trace"))
    first = boxwright("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}", "--junit", tmp_path / "r.xml").out
    assert (tmp_path / "out/image").exists()
    assert not (tmp_path / "out/trace").exists()
    assert report(tmp_path / "r.xml").attrib["tests"] == "2"
    assert report(tmp_path / "r.xml").attrib["failures"] == "0"
    again = boxwright("build", place, "--progress", "json", "--junit", tmp_path / "r.xml").out
    assert '"started"' not in again
    cases = report(tmp_path / "r.xml")[0]
    assert [case.find("system-out") is not None for case in cases] == [True, True]
    forced = boxwright("build", place, "--progress", "json", "--no-cache").out
    steps = next(event for event in map(json.loads, forced.splitlines()) if event["event"] == "plan")["steps"]
    assert [step["action"] for step in steps if step["stage"] == "validate test"] == ["run", "run"]
    without = place.parent / "without"
    without.mkdir()
    (without / "Recipe").write_text((place / "Recipe").read_text().replace("# validate\n", "# a stage\n"))
    assert boxwright("build", without, "-q").out == first


def test_stages_named_on_the_command_line(boxwright: Program, context: Context, busybox_base: Path) -> None:
    place = context(recipe(busybox_base, "exit 1", mark="# nothing"))
    boxwright("build", place, "-q")
    boxwright("build", place, "-q", "--validate", "test", status=1)
    said = boxwright("build", place, "-q", "--validate", "tset", status=2).err
    assert "[recipe.unknown-target]" in said
    assert "did you mean test?" in said


def test_marked_stages_can_be_left_out(boxwright: Program, context: Context, busybox_base: Path) -> None:
    place = context(recipe(busybox_base, "exit 1"))
    boxwright("build", place, "-q", "--no-validate")
    boxwright("build", place, "-q", status=1)
    plan = boxwright("build", place, "--dry-run").out
    assert "[validate test]" in plan


def test_a_validation_at_the_end_is_not_the_image(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(
        f"FROM tar:{busybox_base} AS app\nRUN echo {time.time_ns()} > /app\n"
        "# validate\nFROM app AS one\nRUN sleep 1.5\n# validate\nFROM scratch AS two\nCOPY --from=app /app /app\n"
        f"# validate\nFROM tar:{busybox_base} AS three\nRUN sleep 1.5\n"
    )
    done = boxwright("build", place, "-o", f"rootfs:{tmp_path / 'out'}", "--junit", tmp_path / "r.xml")
    assert (tmp_path / "out/app").exists()
    assert [suite.attrib["name"] for suite in report(tmp_path / "r.xml")] == ["one", "two", "three"]
    # They ran side by side.
    lines = done.err.splitlines()
    started = [number for number, line in enumerate(lines) if line.endswith("RUN sleep 1.5") and "CACHED" not in line]
    ended = [number for number, line in enumerate(lines) if " DONE 1." in line]
    assert len(started) == len(ended) == 2
    assert max(started) < min(ended)
