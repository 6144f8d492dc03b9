"""Definitions of others that are taken, written and turned into one another."""

from __future__ import annotations

import json
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program
from tests.integration.manifests.conftest import ECHO, Project, files_of, suites

pytestmark = pytest.mark.integration


@pytest.mark.long
def test_a_travis_file_is_built_as_it_is(boxwright: Program, project: Project, tmp_path: Path) -> None:
    place = project("", {".travis.yml": TRAVIS, "check": "test -n $A && echo made\n"})
    (place / "manifest.yaml").unlink()
    (place / ".boxwright-config.yaml").write_text("languages: {c: debian:bookworm}\n")
    done = boxwright("build", place, "--junit", tmp_path / "r.xml", "--progress", "plain")
    assert suites(tmp_path / "r.xml") == {"env=A=1: script": ["passed"] * 3, "env=A=2: script": ["passed"] * 3}
    assert "'sudo' has no meaning here" in done.err
    assert done.out.count("sha256:") == 2


TRAVIS = """\
language: c
sudo: false
env: [A=1, A=2]
before_install: test "$TRAVIS" = true
install: true
before_script: echo ready >state
script:
  - test -s state && [[ -n $A ]]
  - sh check
"""


def test_recipes_and_manifests_become_each_other(boxwright: Program, project: Project, tmp_path: Path) -> None:
    recipe = """\
FROM {base}
ENV COLOUR=blue
WORKDIR /srv
COPY --chmod=0755 --chown=app:app a b/
USER app
RUN ["/bin/sh", "-c", "echo $COLOUR >b/x"]
RUN echo two >>b/x
EXPOSE 80/udp
VOLUME /data
LABEL who="me too"
HEALTHCHECK --interval=1m30s CMD test -e b/x
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat b/x"]
"""
    place = project("", {"Dockerfile": recipe, "a": "text"})
    (place / "manifest.yaml").unlink()
    boxwright("build", place, "-t", "first")
    written = boxwright("convert", place).out
    (place / "Dockerfile").rename(tmp_path / "Dockerfile")
    (place / "manifest.yaml").write_text(written)
    boxwright("build", place, "-t", "second")
    back = boxwright("convert", place).out
    (place / "manifest.yaml").unlink()
    (place / "Dockerfile").write_text(back)
    boxwright("build", place, "-t", "third")
    images = json.loads(boxwright("inspect", "first", "second", "third").out)
    for image in images:
        image["config"].pop("args_escaped", None)  # only a recipe's CMD has it
    assert images[0]["config"] == images[1]["config"] == images[2]["config"]
    trees = [files_of(boxwright, tmp_path / name, name) for name in ("first", "second", "third")]
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("FROM {base} AS a\nFROM {base}\nCOPY --from=a /etc /x\n", 3),
        ("FROM {base}\nRUN echo a\nENV A=b\n", 2),
        ("FROM {base}\nCOPY <<E /x\na\nE\n", 2),
        ("FROM {base}\nRUN --mount=type=tmpfs,target=/x true\n", 2),
    ],
    ids=["another stage", "a variable set later", "a document", "a mount"],
)
def test_what_a_conversion_would_lose_is_named(boxwright: Program, project: Project, recipe: str, line: int) -> None:
    place = project("", {"Recipe": recipe})
    (place / "manifest.yaml").unlink()
    done = boxwright("convert", place, status=1)
    assert "[convert.loss]" in done.err
    assert f"Recipe:{line}:1: lost: " in done.err
    assert boxwright("convert", place, "--lossy").out.startswith("image: tar:")


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        pytest.param(*("matrix: {a: ['1', '2']}\nartifact: named/so:1\n", 1), marks=pytest.mark.long),
        ("services: {box: {image: '{base}', command: 'true'}}\ninstall: [echo x]\n", 3),
        ("toolbox: {facts: true}\ninstall: [echo x]\n", 3),
        pytest.param(*("command: [sh]\ntest: {commands: [echo x]}\n", 3), marks=pytest.mark.long),
        ("modules: [{name: own}]\n", 4),
        pytest.param(*("include: [../elsewhere/manifest.yaml]\n", 1), marks=pytest.mark.long),
    ],
    ids=["a matrix", "a service", "a toolbox", "a test", "a module's file", "a file of another place"],
)
def test_what_a_recipe_can_not_say_is_named(
    boxwright: Program, project: Project, tmp_path: Path, manifest: str, line: int
) -> None:
    module = "name: own\nversion: '1'\nsummary: x\nfiles: [{src: f, dest: /f}]\n"
    named = (
        manifest.replace("so:1", "so:{{ matrix.a }}") if "matrix" in manifest else f"{manifest}artifact: named/so:1\n"
    )
    place = project(f"image: {{base}}\n{named}", {"modules/own/module.yaml": module})
    (place / "modules/own/f").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/manifest.yaml").write_text("files: [{src: f, dest: /f}]\n")
    (tmp_path / "elsewhere/f").touch()
    done = boxwright("convert", place, "--to", "dockerfile", status=1)
    assert "[convert.loss]" in done.err
    assert f".yaml:{line}:" in done.err.partition(": lost: ")[0]
    assert "-t named/so:1" in done.err
    assert boxwright("convert", place, "--to", "dockerfile", "--lossy").out.startswith("FROM tar:")


def test_a_first_manifest_finds_language_dependencies_and_ports(boxwright: Program, tmp_path: Path) -> None:
    place = tmp_path / "Shop"
    place.mkdir()
    (place / "requirements.txt").write_text("flask>=2  # web\npsycopg2-binary\npytest\n")
    (place / "app.py").write_text("app.run(port=8123)\n")
    assert "python" in boxwright("init", place).err
    text = (place / "manifest.yaml").read_text()
    for line in ("language: python", "  - postgresql", "  - pytest", 'ports: ["8123"]', "artifact: shop:latest"):
        assert line in text.splitlines()
    assert "[init.exists]" in boxwright("init", place, status=2).err


@pytest.mark.engine("graphviz")
def test_the_graph_is_drawn(boxwright: Program, project: Project) -> None:
    place = project("image: {base}\ninstall: ['echo \"<&>\"']\nscript: [a, b]\nartifact: drawn:1\n")
    text = boxwright("graph", place).out.splitlines()
    assert text[0] == "start"
    assert text[-1] == "commit drawn:1  <- 2, 3, 4"
    dot = boxwright("graph", place, "--format", "dot").out
    judged = subprocess.run(["dot", "-Tplain"], input=dot, capture_output=True, text=True, check=True).stdout
    assert sum(line.startswith("node ") for line in judged.splitlines()) == 6
    mermaid = boxwright("graph", place, "--format", "mermaid").out
    assert mermaid.startswith("flowchart TB")
    assert "n2 --> n3" in mermaid
    svg = ET.fromstring(boxwright("graph", place, "--format", "svg").out)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert 'echo "<&>"' in "".join(svg.itertext())


@pytest.mark.parametrize("example", ["static-site", "php-site", "c-tool", "key-values", "travis"])
def test_examples_have_a_graph(boxwright: Program, example: str) -> None:
    assert "commit " in boxwright("graph", ROOT / "examples" / example).out


def test_schemas_of_manifests_and_modules(boxwright: Program) -> None:
    for kind in ("manifest", "module"):
        schema = json.loads(boxwright("schema", kind).out)
        assert schema["title"] == f"{kind}.yaml"
    place = ROOT / "examples/hello"
    assert "[definition.not-found]" in boxwright("build", place, "-f", "x.yaml", status=2).err


def test_variables_of_the_command_line(boxwright: Program, project: Project, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("[not, parsed]\n")
    place = project("image: {base}\nvars: {a: own, b: own}\ninstall:\n  - {run: 'echo {{ a[0] }} {{ b }} {{ c }}'}\n")
    text = boxwright(
        "graph", place, "--set", "a=[one, two]", "--set-file", f"b={tmp_path / 'list'}", "--set", "c=x=y"
    ).out
    assert "run echo one [not, parsed] x=y" in text
    assert "[manifest.undefined]" in boxwright("graph", place, status=2).err
    assert "[definition.not-found]" in boxwright("graph", place, "--set-file", "c=/nowhere", status=2).err


def test_options_that_mean_nothing_to_a_manifest(boxwright: Program, project: Project) -> None:
    place = project("image: {base}\n")
    assert "[usage.set]" in boxwright("build", place, "--set", "a b=1", status=2).err
    assert "[usage.manifest]" in boxwright("build", place, "--build-arg", "A=1", status=2).err


def test_a_killed_build_leaves_nothing(boxwright: Program, project: Project) -> None:
    place = project(
        f"image: {{base}}\nservices: {{talker: {{image: '{{base}}', command: \"{ECHO}\", port: 7000}}}}\n"
        f"install: [echo begun {time.time_ns()}; sleep 60]\n"
    )
    process = boxwright.start("build", place, "--progress", "plain")
    assert process.stderr is not None
    for line in process.stderr:
        if "begun" in line and "DONE" not in line and line.split()[1:2] == ["begun"]:
            break
    process.kill()
    process.communicate()
    boxwright("gc")
