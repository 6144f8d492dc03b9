"""Configuration files: which count, what bases mean, and where a mistake is."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwright.app.configuration import configuration_files, configuration_for
from boxwright.errors import DefinitionError
from boxwright.sources.reference import Meaning, classify

NAME = ".boxwright-config.yaml"


def meaning(tmp_path: Path, text: str, name: str) -> Meaning:
    (tmp_path / NAME).write_text(text)
    return classify(name, bases=configuration_for(str(tmp_path), {}).bases)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{type: debian, suite: bookworm}", Meaning("bootstrap", "debian:bookworm")),
        ("{type: debian, suite: 12, variant: system}", Meaning("bootstrap", "debian:bookworm/system")),
        ("{type: ubuntu, suite: 24.04}", Meaning("bootstrap", "ubuntu:noble")),
        (
            "{type: alpine, suite: 3.20, mirror: 'http://m/alpine', packages: [nginx, curl]}",
            Meaning("bootstrap", "alpine:3.20?mirror=http://m/alpine&packages=curl,nginx"),
        ),
        ("{type: debian, suite: trixie, variant: buildd}", Meaning("bootstrap", "debian:trixie?variant=buildd")),
        ("debian:trixie-slim", Meaning("bootstrap", "debian:trixie")),
        ("registry.example/team/base:1", Meaning("registry", "registry.example/team/base:1")),
        ("oci:/srv/base", Meaning("oci", "/srv/base")),
    ],
)
def test_bases(tmp_path: Path, spec: str, expected: Meaning) -> None:
    assert meaning(tmp_path, f"bases:\n  company/base: {spec}\n", "company/base") == expected


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / NAME).write_text("bases: {a: 'oci:images/a', b: {type: alpine, suite: edge, keyring: keys}}\n")
    bases = configuration_for(str(tmp_path / "below"), {}).bases
    assert bases["a"] == f"oci:{tmp_path}/images/a"
    assert bases["b"] == f"bootstrap:alpine:edge?keyring={tmp_path}/keys"


def test_one_name_for_another(tmp_path: Path) -> None:
    assert meaning(tmp_path, "bases: {a: b, b: 'debian:12'}", "a") == Meaning("bootstrap", "debian:bookworm")
    with pytest.raises(DefinitionError) as caught:
        meaning(tmp_path, "bases: {a: b, b: c, c: a}", "a")
    assert caught.value.code == "base.cycle"
    assert "a -> b -> c -> a" in caught.value.message


def test_the_tree_has_the_last_word(tmp_path: Path) -> None:
    home, tree = tmp_path / "home", tmp_path / "tree"
    (home / "other").mkdir(parents=True)
    (tree / ".git").mkdir(parents=True)
    (tree / "deep/er").mkdir(parents=True)
    (home / NAME).write_text("bases: {a: 'debian:12', b: 'debian:12'}\nmirrors: {alpine: 'http://home'}\n")
    (tree / ".buildit-config.yaml").write_text("bases: {a: 'debian:13'}\nrepository: {name: x}\n")
    found = configuration_for(str(tree / "deep/er"), {"HOME": str(home)})
    assert found.bases == {"a": "debian:13", "b": "debian:12"}
    assert found.mirrors == {"alpine": "http://home"}
    assert configuration_files(str(tmp_path), "") == ()
    assert configuration_files(str(home / "other"), str(home)) == (str(home / NAME),)


@pytest.mark.parametrize(
    ("text", "code", "line", "hint"),
    [
        ("bases:\n  a:\n    type: debian\n    sutie: bookworm\n", "config.unknown-key", 4, "'suite'"),
        ("\nbase:\n  a: b\n", "config.unknown-key", 2, "'bases'"),
        ("bases:\n  a: b\n  c:\n    type: debia\n    suite: x\n", "config.wrong", 4, ""),
        ("bases:\n  a:\n    type: debian\n", "config.wrong", 3, ""),
        ("bases:\n  a:\n    type: debian\n    suite: x\n    packages:\n    - y\n    - [z]\n", "config.wrong", 7, ""),
        ("bases:\n  a: [x]\n", "config.wrong", 2, ""),
        ("bases: [x]\n", "config.wrong", 1, ""),
        ("mirrors:\n  fedora: x\n", "config.wrong", 2, ""),
        ("bases:\n  a: b\n  a: c\n", "config.twice", 3, ""),
        ("bases:\n  a: 'b\n", "config.syntax", 3, ""),
        ("bases:\n  a: {type: debian, suite: ../x}\n", "base.bad-name", 2, ""),
        ("- x\n", "config.wrong", 1, ""),
    ],
)
def test_mistakes(tmp_path: Path, text: str, code: str, line: int, hint: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(DefinitionError) as caught:
        configuration_for(str(tmp_path), {})
    assert caught.value.code == code
    assert caught.value.where is not None
    assert (caught.value.where.file, caught.value.where.line) == (str(tmp_path / NAME), line)
    assert hint in caught.value.hint


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("# nothing yet\n")
    assert configuration_for(str(tmp_path), {}).bases == {}
