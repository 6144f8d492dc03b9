"""Manifests of `examples/`, and a project of each language, are built for real: their validations and tests pass."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT, Program

pytestmark = pytest.mark.integration


class Example(NamedTuple):
    """What a definition gives: so many images, validated by so many branches; a word says how the image answers."""

    place: Path
    branches: int
    images: int = 1
    words: tuple[str, ...] = ()
    said: str = ""


def example(name: str, branches: int, images: int = 1, *, words: str = "", said: str = "") -> Example:
    return Example(ROOT / "examples" / name, branches, images, tuple(words.split()), said)


def case(name: str, branches: int, images: int = 1, *, said: str = "") -> Example:
    return Example(ROOT / "tests/cases" / name, branches, images, (), said)


SHORT = [
    example("key-values", 1, said="backend "),
    case("languages/generic", 1, said="works\n"),
]
EXAMPLES = [
    example("c-tool", 1, said="hello\n"),
    example("go-clock", 2),
    example("java-tally", 2, said="one 2\ntwo 1\n"),
    example("matrix", 2, 2, said="has usrmerge\n"),
    example("node-board", 2),
    example("php-site", 5),
    example("php-words", 2),
    example("python-notes", 3),
    example("python-web", 3),
    example("report", 1, said="apples        30\npears         12\nsum           42\n"),
    example("ruby-guests", 2),
    example("rust-words", 1, words="b a B", said="2 b\n1 a\n"),
    example("static-site", 2),
    example("system-clock", 2),
    example("travis", 2, 2),
]
LANGUAGES = [
    case("languages/python", 1, said="[('a', 2), ('b', 1)]\n"),
    case("travis/node", 1),
    case("travis/python", 2, 2),
    case("travis/ruby", 2, 2),
]
ALL = [*SHORT, *(pytest.param(it, marks=pytest.mark.long) for it in (*EXAMPLES, *LANGUAGES))]


def name_of(given: object) -> str:
    return "/".join(given.place.parts[-2:]) if isinstance(given, Example) else ""


@pytest.mark.parametrize("given", ALL, ids=name_of)
def test_it_is_built_and_passes(boxwright: Program, given: Example, tmp_path: Path) -> None:
    done = boxwright("build", given.place, "--junit", tmp_path / "r.xml", "--progress", "plain", timeout=590)
    suites = ET.fromstring((tmp_path / "r.xml").read_bytes())
    assert len(suites) == given.branches
    assert all(not case.findall("failure") and not case.findall("error") for suite in suites for case in suite)
    images = [line.split()[0] for line in done.out.splitlines()]
    assert len(images) == given.images
    if given.said:
        assert given.said in boxwright("run", "--rm", "--network", "none", images[0], *given.words).out


@pytest.mark.long
@pytest.mark.engine("lxd")
def test_the_system_container_boots(
    boxwright: Program, tmp_path: Path, forgetting: Callable[[str, Program], None]
) -> None:
    forgetting("lxd", boxwright)
    shutil.copytree(ROOT / "examples/system-clock", tmp_path / "clock")
    manifest = tmp_path / "clock/manifest.yaml"
    # The branch may be in the container that enabled it, which was booted before.
    it_runs = (
        "systemctl start clock && timeout 60 sh -c 'until test -s /run/clock; do sleep 0.2; done' && cat /run/clock"
    )
    text = manifest.read_text()
    manifest.write_text(text.replace("script:\n", f"script:\n  - {it_runs}\n"))
    done = boxwright("build", tmp_path / "clock", "--engine", "lxd", "--progress", "plain", timeout=590)
    assert any(line.endswith("Z") and line.count(":") == 2 for line in done.err.splitlines())


def test_every_manifest_of_the_examples_is_built() -> None:
    places = {it.parent for name in ("manifest.yaml", ".travis.yml") for it in (ROOT / "examples").glob(f"*/{name}")}
    assert places == {it.place for it in (*SHORT, *EXAMPLES) if it.place.parent.name == "examples"}
    assert len(places) > 12
