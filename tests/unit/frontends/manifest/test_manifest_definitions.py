"""Manifests: cases in a data file, and properties of their templates."""

from __future__ import annotations

import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.app.configuration import Configuration
from boxwright.app.manifest.kept import decode, encode
from boxwright.app.manifest.world import DirectoryWorld, NotingResolver
from boxwright.errors import BoxwrightError
from boxwright.frontends import templates
from boxwright.frontends.container.packaging import Packaging
from boxwright.frontends.manifest.graph import ManifestOptions, PlainNodes, build_manifest
from boxwright.frontends.manifest.made import ManifestGraph
from boxwright.frontends.manifest.render import Renderer
from boxwright.frontends.manifest.schema import json_schema, module_schema
from boxwright.frontends.package.document import Mapping as Document
from boxwright.frontends.package.document import parse_value
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base, ContextSource, Copy, Run
from boxwright.ports import ResolvedBase
from boxwright.store.store import Store

CASES = yaml.safe_load((Path(__file__).parents[3] / "cases" / "manifest" / "definitions.yaml").read_text("utf-8"))


class Bases:
    """Each base is what it is called."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        return ResolvedBase(Base("registry", name, platform), ImageConfig("amd64"), name)

    def recipe(self, name: str) -> tuple[str, str]:
        raise AssertionError(name)


class FewPackages:
    """Stands where packages are composed; none are here."""

    def __init__(self) -> None:
        self.packages = PlainNodes()


def facts(_image: str, _where: Span) -> Mapping[str, object]:
    return {"distribution": "debian", "version": "12", "memory": 1000}


def no_image(name: str, _where: Span) -> str:
    raise AssertionError(name)


def built(place: Path, case: Mapping[str, Any]) -> ManifestGraph:
    name = ".travis.yml" if "travis" in case else "manifest.yaml"
    texts = {**case.get("files", {}), name: case.get("travis", case.get("text"))}
    for path, text in texts.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    file = str(place / name)
    environment = {"BOXWRIGHT_MODULES": "", **case.get("environment", {})}
    configuration = Configuration(languages=case.get("languages", {}))
    world = DirectoryWorld(
        *(str(place), cast("Store", None), environment, configuration, facts, NotingResolver(Bases()), no_image)
    )
    options = ManifestOptions("linux/amd64", case.get("set", {}), case.get("matrix", {}))
    few = cast("Packaging", FewPackages())
    return build_manifest(texts[name], file, world, Bases(), options, lambda _: few)


def wanted(case: Mapping[str, Any]) -> bool:
    return "error" in case


@pytest.mark.parametrize("case", [it for it in CASES if wanted(it)], ids=lambda case: case["name"])
def test_what_is_wrong_is_said_at_its_place(case: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BoxwrightError) as caught:
        built(tmp_path, case)
    error = caught.value
    assert error.where is not None
    assert [error.code, error.where.line, error.where.column] == case["error"], error.message
    assert case.get("hint", "") in error.hint
    assert error.where.file.endswith(case.get("file", ""))
    if "message" in case:
        assert case["message"].replace("{}", str(tmp_path)) in error.message


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ r | map('string') | join | wordwrap(1) }}",
    ],
)
def test_a_template_that_never_ends(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_SECONDS", 0.1)
    before = signal.getsignal(signal.SIGVTALRM), resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(BoxwrightError) as caught:
        built(tmp_path, {"text": f"image: x\n{{% set r = range(90000) %}}{text}\n"})
    assert caught.value.code == "manifest.template"
    assert caught.value.where is not None
    assert (signal.getsignal(signal.SIGVTALRM), resource.getrlimit(resource.RLIMIT_AS)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


@pytest.mark.parametrize("case", [it for it in CASES if not wanted(it)], ids=lambda case: case["name"])
def test_what_a_manifest_becomes(case: Mapping[str, Any], tmp_path: Path) -> None:
    manifest = built(tmp_path, case)
    nodes = manifest.graph.nodes
    if "nodes" in case:
        assert [[node.stage, node.title] for node in nodes] == case["nodes"]
    if "names" in case:
        assert [name for entry in manifest.entries for name in entry.names] == case["names"]
    env = dict(manifest.graph.config.env)
    assert {name: env.get(name) for name in case.get("env", {})} == case.get("env", {})
    if "copied" in case:
        sources = [it for node in nodes if isinstance(node.step, Copy) for it in node.step.sources]
        assert [[it.paths[0], it.context] for it in sources if isinstance(it, ContextSource)] == case["copied"]
    assert all(any(word in note for note in manifest.notes) for word in case.get("notes", []))
    for entry in manifest.entries:
        for gate in entry.gates:  # a validation branches off the image's last state and is no part of it
            assert nodes[gate].stage.startswith("validate")
        assert not nodes[entry.target].stage.startswith("validate")
    assert decode(encode(manifest)) == manifest


def test_validations_branch_off_the_last_task(tmp_path: Path) -> None:
    text = "image: x\ninstall: [a]\nscript: [b, {run: [c, d]}]\n"
    nodes = built(tmp_path, {"text": text}).graph.nodes
    runs = {node.step.argv[-1]: (number, node) for number, node in enumerate(nodes) if isinstance(node.step, Run)}
    assert runs["b"][1].inputs == runs["c"][1].inputs == (runs["a"][0],)
    assert runs["d"][1].inputs == (runs["c"][0],)


@given(st.lists(st.sampled_from(["a: {{ x }}", "{% if x %}", "{% endif %}", "b: 1", "# {{ x }}", "", "{# c #}"])))
def test_every_line_comes_from_the_line_that_wrote_it(lines: list[str]) -> None:
    """Each line says its own number; whatever the template leaves out, what is left must still know it."""
    numbered = [f"{line}@{number}@" if ":" in line else line for number, line in enumerate(lines, 1)]
    try:
        rendered = Renderer({"x": "v"}, lambda _: None).manifest("\n".join(numbered), "m")
    except BoxwrightError:
        return  # conditions that don't match
    for number, line in enumerate(rendered.text.split("\n")):
        if "@" in line and rendered.lines:
            assert str(rendered.lines[number]) == line.split("@")[1]


@given(st.text())
def test_values_come_through_templates_unchanged(value: str) -> None:
    rendered = Renderer({"x": value}, lambda _: None).manifest("a {{ x }}", "m")
    assert rendered.text == f"a {value}"


def test_lines_of_yaml_are_those_of_the_template() -> None:
    text = "{% for a in [1, 2] %}\nk{{ a }}: v\n{% endfor %}\nlast: 1\n"
    rendered = Renderer({}, lambda _: None).manifest(text, "m")
    value = parse_value(rendered.text, "m", rendered.lines)
    assert isinstance(value, Document)
    assert {key: place.line for key, place in value.keys.items()} == {"k1": 2, "k2": 2, "last": 4}


def test_the_schemas_know_every_key_of_the_page() -> None:
    known = json_schema()["$defs"]
    assert isinstance(known, dict)
    keys = {
        "language",
        "image",
        "include",
        "modules",
        "files",
        "templates",
        "packages",
        "install",
        "script",
        "artifact",
    }
    assert keys <= set(known["Manifest"]["properties"])
    assert "parameters" in cast("Any", module_schema())["$defs"]["Module"]["properties"]
