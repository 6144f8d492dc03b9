"""Definitions: cases in a data file, and what holds for any text."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.app.packagecache import ResolvedCache
from boxwright.app.packagefiles import DefinitionFiles, compare_versions
from boxwright.errors import DefinitionError
from boxwright.frontends.package.convert import convert
from boxwright.frontends.package.document import parse_document
from boxwright.frontends.package.graph import PackageGraph
from boxwright.frontends.package.merge import merge
from boxwright.frontends.package.resolve import resolve
from boxwright.frontends.package.schema import Definition, json_schema
from boxwright.frontends.package.wanted import Found, Resolved
from boxwright.model.span import Span
from boxwright.store.packages import Packages

CASES = [
    case
    for name in ("definitions.yaml", "attacks.yaml")
    for case in yaml.safe_load((Path(__file__).parents[3] / "cases" / "package" / name).read_text("utf-8"))
]
ZEROS = "0" * 64


class NoStore(Packages):
    """Nothing is fetched here, and nothing is kept."""

    def __init__(self) -> None:
        """There is no store."""

    def pin(self, name: str) -> str | None:
        return None


def resolved(case: dict[str, Any], tmp_path: Path) -> Resolved:
    tree, later = tmp_path / "packages", tmp_path / "later"
    for place, files_there in ((tree, case["files"]), (later, case.get("later", {}))):
        for name, text in files_there.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, dict):
                path.symlink_to(text["link"])
            else:
                path.write_text(text.replace("ZEROS", ZEROS))
    trees = (str(tree), str(later))
    files = DefinitionFiles(NoStore(), trees, {}, epoch=None, locked=False, output=lambda _: None)
    graph = PackageGraph(lambda found: resolve(found, "linux/amd64", files), "linux/amd64")
    found = files.find(case.get("build", "a/x"), str(tree / "pkg.yaml"), None)
    result = graph.resolved(graph.add(found))
    assert result is not None
    return result


def shown(result: Resolved, key: str) -> object:
    step = result.step
    if key == "patches":
        return [
            [source.files[0][0], dict(source.options)["reason"]] for source in step.sources if source.kind == "patch"
        ]
    if key == "needs":
        return [
            "-".join(filter(None, (Path(need.path).parent.name or need.debian, need.version)))
            for need in result.requirements
        ]
    value = getattr(step, key)
    if key in ("options", "environment", "parts"):
        return {name: list(item) if isinstance(item, tuple) else item for name, item in value}
    return _lists(value)


def _lists(value: object) -> object:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in case], ids=lambda case: str(case["name"]))
def test_what_definitions_become(case: dict[str, Any], tmp_path: Path) -> None:
    result = resolved(case, tmp_path)
    for key, wanted in case.get("is", {}).items():
        found = shown(result, key)
        if isinstance(wanted, dict):
            assert isinstance(found, dict)
            found = {name: found.get(name) for name in wanted}
        assert found == yaml.safe_load(yaml.safe_dump(wanted).replace("ZEROS", ZEROS)), key
    phases = {name: text for name, text, _ in result.step.phases}
    assert "phases" not in case or phases == case["phases"]
    arguments = {name: list(words) for name, _, words in result.step.phases if words}
    assert "arguments" not in case or arguments == case["arguments"]


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=lambda case: str(case["name"]))
def test_what_is_wrong_is_said_at_its_place(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        resolved(case, tmp_path)
    where = caught.value.where
    assert where is not None
    assert [caught.value.code, where.line, where.column] == case["error"], caught.value.message
    assert case.get("hint", "") in caught.value.hint
    assert where.file.endswith(case.get("file", "pkg.yaml"))


@given(st.text())
def test_any_text_is_a_definition_or_an_error_with_a_place(text: str) -> None:
    where = None
    try:
        convert(parse_document(text, "pkg.yaml"), Definition)
    except DefinitionError as error:
        where = error.where or Span("", 0)
    assert where is None or where.line >= 1


def test_aliases_do_not_eat_the_memory() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join(['*' + before] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    with pytest.raises(DefinitionError) as caught:
        parse_document("\n".join(lines), "pkg.yaml")
    assert caught.value.code == "package.yaml"


keys = st.sampled_from(["author", "license", "depends", "environment", "phases", "patches", "use"])
values = {
    "author": st.sampled_from(["A", "B"]),
    "license": st.sampled_from(["MIT", "ISC"]),
    "depends": st.lists(st.sampled_from(["a/b", "c/d"]), max_size=2),
    "environment": st.dictionaries(st.sampled_from(["X", "Y"]), st.sampled_from(["1", "2"])),
    "phases": st.dictionaries(st.sampled_from(["build", "install"]), st.sampled_from(["m", "n"])),
    "patches": st.dictionaries(st.sampled_from(["p", "q", "r"]), st.sampled_from(["why", "because"])),
    "use": st.fixed_dictionaries({}, optional={
        "with": st.lists(st.sampled_from(["f", "g"]), unique=True),
        "set": st.dictionaries(st.sampled_from(["o"]), st.sampled_from(["1"])),
    }),
}  # fmt: skip
documents = st.fixed_dictionaries({}, optional=values).map(yaml.safe_dump)


@given(documents, documents, documents)
def test_merging_is_associative(first: str, second: str, third: str) -> None:
    one, two, three = (parse_document(text, "f") for text in (first, second, third))
    left = convert(merge(merge(one, two), three), Definition)
    right = convert(merge(one, merge(two, three)), Definition)
    assert left == right


@given(documents)
def test_nothing_over_a_definition_changes_nothing(text: str) -> None:
    document = parse_document(text, "f")
    nothing = parse_document("{}", "f")
    assert convert(merge(document, nothing), Definition) == convert(document, Definition)


def test_the_json_schema_refuses_other_keys() -> None:
    definitions = json_schema()["$defs"]
    assert isinstance(definitions, dict)
    assert all(part["additionalProperties"] is False for part in definitions.values())


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0.1"),
        ("1.0", "1.0a"),
        ("2.0-p1", "2.0-p2"),
        ("2.0rc1", "2.0"),
        ("2.0-RC2", "2.0"),
        ("2.0.beta1", "2.0rc1"),
        ("2.0rc1", "2.0rc2"),
        ("1.9", "2.0rc1"),
        ("3.13.0b1", "3.13.0rc1"),
        ("3.13.0a7", "3.13.0"),
        ("2.0", "2.0-predator"),
        ("2.0", "2.0src1"),
        ("2.0", "2.0+dev1"),
    ],
)
def test_versions_are_ordered(low: str, high: str) -> None:
    assert compare_versions(low, high) < 0 < compare_versions(high, low)
    assert compare_versions(low, low) == 0


def test_local_sources_count_by_content_alone(tmp_path: Path) -> None:
    from boxwright.sources.localtree import digest_local, write_local

    for name in ("one", "two"):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "d" / "f").write_text("text")
        (tmp_path / name / "l").symlink_to("d/f")
    (tmp_path / "two" / ".git").mkdir()
    os.utime(tmp_path / "two" / "d" / "f", (1, 1))
    (tmp_path / "two" / "d" / "f").chmod(0o600)
    digest = digest_local(str(tmp_path / "one"))
    assert digest == digest_local(str(tmp_path / "two"))
    assert digest == write_local(str(tmp_path / "one"), str(tmp_path / "tar"))
    assert digest == hashlib.sha256((tmp_path / "tar").read_bytes()).hexdigest()
    (tmp_path / "two" / "d" / "f").chmod(0o700)
    assert digest != digest_local(str(tmp_path / "two"))


def test_outside_of_a_tree_files_lie_below_the_definition_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/p").write_text("text")
    flags = "use: {flags: {f: {with: {patches: {p: why}}}}}"
    (tmp_path / "base/pkg.yaml").write_text(f"name: x\nversion: 1\n{flags}\n")
    (tmp_path / "own").mkdir()
    own = tmp_path / "own/pkg.yaml"
    files = DefinitionFiles(NoStore(), (), {}, epoch=None, locked=False, output=lambda _: None)
    own.write_text("base: ../base\nuse: {with: [f]}\n")
    assert [source.kind for source in resolve(Found(str(own)), "linux/amd64", files).step.sources] == ["patch"]
    own.write_text("base: ../base\npatches: {../base/p: why}\n")
    files = DefinitionFiles(NoStore(), (), {}, epoch=None, locked=False, output=lambda _: None)
    with pytest.raises(DefinitionError) as caught:
        resolve(Found(str(own)), "linux/amd64", files)
    assert caught.value.code == "package.outside"


def test_a_pipe_is_no_local_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    (tmp_path / "pkg.yaml").write_text("name: x\nversion: 1\nsources: [{local: f}]\n")
    files = DefinitionFiles(NoStore(), (), {}, epoch=None, locked=False, output=lambda _: None)
    with pytest.raises(DefinitionError) as caught:
        resolve(Found(str(tmp_path / "pkg.yaml")), "linux/amd64", files)
    assert caught.value.code == "package.no-file"


def test_names_that_are_no_text_are_not_remembered(tmp_path: Path) -> None:
    """What else was resolved is."""
    for name in ("plain", "odd"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "pkg.yaml").write_text(f"name: {name}\nversion: 1\nsources: [{{local: src}}]\n")
    (tmp_path / "odd/src" / os.fsdecode(b"n\xff")).write_text("text")
    asked: list[str] = []

    def ask() -> None:
        files = DefinitionFiles(NoStore(), (), {}, epoch=None, locked=False, output=lambda _: None)
        cache = ResolvedCache(str(tmp_path / "cache"), "c", files)
        for name in ("plain", "odd"):

            def how(found: Found) -> Resolved:
                asked.append(os.path.basename(os.path.dirname(found.path)))
                return resolve(found, "linux/amd64", files)

            cache.resolve(Found(str(tmp_path / name / "pkg.yaml")), how)
        cache.save()

    ask()
    ask()
    assert asked == ["plain", "odd", "odd"]
