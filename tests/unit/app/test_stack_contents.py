"""Secrets and files of a stack: made once, known by a keyed hash, kept in the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwright.app.stacks.contents import StackContents, digest_of_file
from boxwright.app.stacks.definition import locate
from boxwright.app.stacks.images import image_tag, in_waves, planned_builds
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.stack.read import read_stack
from boxwright.model.stack import StackSecret
from tests.unit.deploy.memory import MemoryEngine


def test_a_secret_is_made_once_and_stays() -> None:
    engine = MemoryEngine()
    contents = StackContents(engine, "shop", {})
    assert contents.made("db") == "db"
    password = contents.content("secret:db")
    assert len(password) == 40
    assert "secrets" not in engine.documents, "nothing is written before something is done"
    contents.keep()
    again = StackContents(engine, "shop", {})
    again.made("db")
    assert again.content("secret:db") == password
    calls = engine.calls
    again.keep()
    assert engine.calls == calls


def test_a_secret_is_made_anew_and_the_old_one_stays() -> None:
    engine = MemoryEngine()
    contents = StackContents(engine, "shop", {})
    contents.rotate("db")
    assert contents.made("db") == "db", "what was never made is not made twice"
    for _ in range(10):
        contents.rotate("db")
    contents.keep()
    later = StackContents(engine, "shop", {})
    assert later.made("db") == "db#11"
    assert later.made("db-2") == "db-2"
    assert len({later.content(f"secret:{name}") for name in ("db", "db#2", "db#10", "db#11", "db-2")}) == 5


def test_a_changed_value_has_another_name_and_the_old_one_stays(tmp_path: Path) -> None:
    engine = MemoryEngine()
    contents = StackContents(engine, "shop", {})
    token = StackSecret("token", env="TOKEN")
    first = contents.given(token, {"TOKEN": "one"})
    assert contents.given(token, {"TOKEN": "one"}) == first
    second = contents.given(token, {"TOKEN": "two"})
    assert first != second
    assert first.startswith("token@")
    assert "one" not in first
    contents.keep()
    later = StackContents(engine, "shop", {})
    assert [later.content(f"secret:{name}") for name in (first, second)] == [b"one", b"two"]
    assert later.given(token, {"TOKEN": "one"}) == first
    assert StackContents(MemoryEngine(), "shop", {}).given(token, {"TOKEN": "one"}) != first, "the key is the stack's"
    file = tmp_path / "file"
    file.write_bytes(b"\x00\xff")
    assert later.content(f"secret:{later.given(StackSecret('key', str(file)), {})}") == b"\x00\xff"


def test_what_is_missing_is_named() -> None:
    contents = StackContents(MemoryEngine(), "shop", {})
    with pytest.raises(DefinitionError) as missing:
        contents.given(StackSecret("token", env="TOKEN"), {})
    assert missing.value.code == "stack.secret-missing"
    for reference in ("secret:none@1", "sha256:00"):
        with pytest.raises(BoxwrightError) as gone:
            contents.content(reference)
        assert gone.value.code == "deploy.content-gone"
    with pytest.raises(DefinitionError):
        digest_of_file("/none")


def test_files_are_kept_for_later_releases(tmp_path: Path) -> None:
    engine = MemoryEngine()
    path = tmp_path / "conf"
    path.write_text("one")
    digest = digest_of_file(str(path))
    StackContents(engine, "shop", {digest: str(path)}).keep_file(digest)
    path.write_text("two")
    assert StackContents(engine, "shop", {}).content(digest) == b"one"


def test_images_that_start_from_others_are_built_after_them(tmp_path: Path) -> None:
    for name, text in {
        "base": "FROM scratch\n",
        "web": "FROM shop/base AS b\n",
        "api": "FROM scratch\nCOPY --from=b / /\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Recipe").write_text(text)
    text = (
        "name: shop\ncontainers:\n  web: {build: ./web}\n  base: {build: ./base, image: shop/base}\n"
        "  api: {build: ./api}\n  again: {build: ./base, image: shop/base}\n  db: {database: postgresql}\n"
    )
    stack = read_stack(text, str(tmp_path / "autopilot.yaml"), locate)
    waves = in_waves(planned_builds(stack, balanced=True))
    assert [sorted(it.tag for it in wave) for wave in waves] == [
        ["boxwright/haproxy:latest", "boxwright/postgresql:15", "shop/api:latest", "shop/base:latest"],
        ["shop/web:latest"],
    ]
    assert next(it for it in waves[0] if it.tag == "shop/base:latest").containers == ("base", "again")
    assert image_tag(stack, stack.container("web")) == "shop/web:latest"


def test_an_image_that_several_take_is_brought_once(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/Recipe").write_text("FROM scratch\nCOPY Recipe /\n")
    text = (
        "name: shop\ncontainers:\n  a: {image: debian}\n  b: {image: debian}\n  c: {image: shop/own}\n"
        "  d: {build: ./own, image: shop/own}\n"
    )
    stack = read_stack(text, str(tmp_path / "autopilot.yaml"), locate)
    waves = in_waves(planned_builds(stack, balanced=False))
    assert [[it.tags for it in wave] for wave in waves] == [
        [("shop/a:latest", "shop/b:latest"), ("shop/own:latest",)],
        [("shop/c:latest",)],
    ]
    assert waves[0][0].containers == ("a", "b")


def test_images_that_start_from_each_other_are_an_error(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Recipe").write_text(f"FROM shop/{other}\n")
    text = "name: shop\ncontainers: {a: {build: ./a}, b: {build: ./b}}\n"
    stack = read_stack(text, str(tmp_path / "autopilot.yaml"), locate)
    with pytest.raises(BoxwrightError) as caught:
        in_waves(planned_builds(stack, balanced=False))
    assert caught.value.code == "deploy.build-cycle"


def test_the_programs_own_recipes_are_found_where_there_is_none_of_that_name(tmp_path: Path) -> None:
    assert str(locate(str(tmp_path), "images/redis")).endswith("/images/redis")
    (tmp_path / "images/redis").mkdir(parents=True)
    assert locate(str(tmp_path), "images/redis") == str(tmp_path / "images/redis")
    assert locate(str(tmp_path), "images/none") is None
