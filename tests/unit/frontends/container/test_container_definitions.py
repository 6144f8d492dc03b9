"""Container definitions: cases in a data file, and what images are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.app.containerfiles import DirectoryFiles
from boxwright.app.names import image_name
from boxwright.app.packagefiles import DefinitionFiles
from boxwright.errors import DefinitionError
from boxwright.frontends.container.graph import (
    ContainerGraph,
    ContainerOptions,
    build_container,
    image_tag,
    package_tag,
)
from boxwright.frontends.container.schema import json_schema
from boxwright.frontends.container.sync import modes
from boxwright.frontends.container.tasks import read_tasks
from boxwright.frontends.package.graph import PackageGraph
from boxwright.frontends.package.resolve import resolve
from boxwright.model.image import ImageConfig, Port
from boxwright.model.mode import parse_mode
from boxwright.model.span import Span
from boxwright.model.step import Base, BuildPackage, Compose, Copy, InlineSource, Run, Step
from boxwright.ports import ResolvedBase
from boxwright.store.packages import Packages

CASES = [
    case
    for name in ("definitions.yaml", "attacks.yaml")
    for case in yaml.safe_load((Path(__file__).parents[3] / "cases" / "container" / name).read_text("utf-8"))
]
DEEP = '{"config": {"Volumes": ' + '{"a": ' * 50_000 + "{}" + "}" * 50_000 + "}}"
MANIFEST = """\
- vars: {name: shop, version: "1.2"}
- image:
    type: aci
    content: |
      {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "{{ name }}",
       "labels": [{"name": "os", "value": "linux"}],
       "app": {"exec": ["/bin/shop", "-x"], "user": "10", "group": "20", "workingDirectory": "/srv",
               "environment": [{"name": "A", "value": "b"}], "mountPoints": [{"name": "data", "path": "/data"}],
               "ports": [{"name": "http", "protocol": "tcp", "port": 80}]}}
"""
CONFIGURATION = """\
- user: web
- image: {type: oci, content: '{"config": {"Cmd": ["a"], "Env": ["A=b=c"], "ExposedPorts": {"53/udp": {}}}}'}
"""


class NoStore(Packages):
    """Nothing is fetched here, and nothing is kept."""

    def __init__(self) -> None:
        """There is no store."""

    def pin(self, name: str) -> str | None:
        return None


class Bases:
    """Each base is what it is called."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        return ResolvedBase(Base("bootstrap", name, platform), ImageConfig("amd64"), name)

    def recipe(self, name: str) -> tuple[str, str]:
        raise AssertionError(name)


def built(text: str, directory: Path) -> ContainerGraph:
    outside = directory.with_name(f"{directory.name}-outside")
    for name, content in {
        "other/pkg.yaml": "name: other\nversion: 1.0\n",
        "files/app.conf": "a = {{ b }}\n",
        "files/page.j2": "<{{ title }}>\n",
    }.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    outside.mkdir(exist_ok=True, parents=True)
    (outside / "secret.txt").write_text("secret")
    for name, target in (("out", str(outside)), ("leak.txt", "out/secret.txt"), ("inside", "files")):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(target)
    text = text.replace("DEEP", DEEP)
    file = str(directory / "container.yaml")
    definitions = DefinitionFiles(NoStore(), (), {}, epoch=None, locked=False, output=lambda _: None)
    packages = PackageGraph(lambda found: resolve(found, "linux/amd64", definitions), "linux/amd64")
    options = ContainerOptions("linux/amd64", {"given": "line"})
    files = DirectoryFiles(str(directory), definitions)
    return build_container(text, file, files, packages, Bases(), options)


def shown(step: Step) -> list[object]:
    kind = type(step).__name__
    if isinstance(step, Run):
        return [kind, step.argv[2] if step.argv[0] == "/bin/sh" else " ".join(step.argv)]
    if isinstance(step, Copy):
        texts = [source.text for source in step.sources if isinstance(source, InlineSource)]
        return [kind, step.destination, step.mode, step.owner, *texts]
    if isinstance(step, Compose):
        return [kind, [package.name for package in step.packages], [user.name for user in step.users]]
    return [kind, step.name] if isinstance(step, BuildPackage) else [kind]


@pytest.mark.parametrize("case", [case for case in CASES if "tasks" in case], ids=lambda case: str(case["name"]))
def test_what_tasks_become(case: dict[str, Any], tmp_path: Path) -> None:
    assert [shown(node.step) for node in built(case["text"], tmp_path).graph.nodes] == case["tasks"]


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=lambda case: str(case["name"]))
def test_what_is_wrong_is_said_at_its_place(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        built(case["text"], tmp_path)
    where = caught.value.where
    assert where is not None
    assert [caught.value.code, where.line, where.column] == case["error"], caught.value.message
    assert case.get("hint", "") in caught.value.hint
    assert where.file.endswith(case.get("file", "container.yaml"))


@given(st.text())
def test_any_text_is_a_list_of_tasks_or_an_error_with_a_place(text: str) -> None:
    where: Span | None = Span("container.yaml", 1)
    try:
        read_tasks(text, "container.yaml", {})
    except DefinitionError as error:
        where = error.where
    assert where is not None
    assert where.line >= 1


def test_an_aci_manifest_is_a_configuration(tmp_path: Path) -> None:
    image = built(MANIFEST, tmp_path).images[0]
    config = image.config
    assert config.entrypoint == ("/bin/shop", "-x")
    assert (config.user, config.workdir, config.volumes) == ("10:20", "/srv", ("/data",))
    assert config.exposed == (Port(80),)
    assert dict(config.env)["A"] == "b"
    assert '"name": "shop"' in image.manifest


def test_an_oci_configuration_goes_over_what_tasks_said(tmp_path: Path) -> None:
    config = built(CONFIGURATION, tmp_path).images[0].config
    assert (config.cmd, config.user, dict(config.env)["A"]) == (("a",), "web", "b=c")
    assert config.exposed == (Port(53, "udp"),)


def test_parts_of_a_package_that_is_named_twice_are_all_laid_down(tmp_path: Path) -> None:
    task = "- package: {type: embedded, path: other"
    text = f"{task}, parts: [dev], replaces: [a]}}\n{task}, parts: [doc], replaces: [b]}}\n- run: x\n{task}}}\n"
    nodes = built(text, tmp_path).graph.nodes
    (compose,) = (node.step for node in nodes if isinstance(node.step, Compose))
    assert compose.packages[0].wanted == ("dev", "doc")
    assert compose.packages[0].replaces == ("a", "b")


def test_empty_directories_are_copied_among_templates(tmp_path: Path) -> None:
    (tmp_path / "files/a/empty").mkdir(parents=True)
    (tmp_path / "files/a/empty").chmod(0o750)
    text = "- vars: {title: T, b: c}\n- sync: {src: files, dest: /srv, recursive: true, templates: true, chown: web}\n"
    steps = [shown(node.step) for node in built(text, tmp_path).graph.nodes]
    assert steps[1:3] == [["MakeDirectory"], ["Copy", "/srv/a/empty", "a=,ug+X,u+rwx,g+rx", "web"]]
    assert [step[1] for step in steps[3:]] == ["/srv/app.conf", "/srv/page"]


def test_names(tmp_path: Path) -> None:
    named = built("- vars: {author: Sys Admin, name: Web-1, version: 1.0+git~1}\n- run: x\n", tmp_path)
    assert named.title == "Sys Admin/Web-1-1.0+git~1"
    assert image_tag(named) == "sys-admin/web-1:1.0-git-1"
    plain = built("- run: x\n", tmp_path / "some dir")
    assert image_tag(plain) == "some-dir:latest"


@pytest.mark.parametrize(
    ("given", "file", "directory"),
    [("0644", 0o644, 0o755), ("600", 0o600, 0o700), ("0744", 0o744, 0o755), ("4711", 0o4711, 0o4711), ("0", 0, 0)],
)
@pytest.mark.parametrize("before", [0o644, 0o755, 0o7777, 0])
def test_directories_of_what_may_be_read_may_be_entered(given: str, file: int, directory: int, before: int) -> None:
    change = parse_mode(modes(given))
    assert (change(before, False), change(before, True)) == (file, directory)


def test_the_schema_knows_every_task() -> None:
    text = str(json_schema())
    for name in ("vars", "base", "package", "sync", "run", "user", "image", "one-per-container"):
        assert name in text


@pytest.mark.parametrize(
    ("name", "version", "tag"),
    [
        ("libs/zlib", "1.3", "libs/zlib:1.3"),
        ("libs/gtk+", "3.24", "libs/gtk:3.24"),
        ("debian/libstdc++6", "1:12.2~rc1+b1", "debian/libstdc--6:1-12.2-rc1-b1"),
        ("libs/a._b", "1" * 200, f"libs/a-b:{'1' * 128}"),
        ("dev.lang/x", "1", "dev.lang/x:1"),
    ],
)
def test_every_package_has_a_name_as_an_image(name: str, version: str, tag: str) -> None:
    assert package_tag(name, version) == tag
    assert image_name(tag) == tag
