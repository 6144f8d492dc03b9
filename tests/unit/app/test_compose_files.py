"""What stands beside a Compose file: `.env`, and files that are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwright.app.stacks.definition import load_stack
from boxwright.errors import DefinitionError

FILE = "services:\n  web: {image: 'a:$TAG'}\n  shell: {image: b, profiles: [debug]}\n"


def test_variables_come_from_the_environment_and_then_from_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / ".env").write_text("TAG=${MAJOR}.2 # the newest\nCOMPOSE_PROFILES=debug\nCOMPOSE_PROJECT_NAME=other\n")
    stack = load_stack(f"{tmp_path}/compose.yaml", {"MAJOR": "1"})
    assert stack.name == "other"
    assert [it.image for it in stack.containers] == ["a:1.2", "b"]
    assert load_stack(f"{tmp_path}/compose.yaml", {"TAG": "9"}).containers[0].image == "a:9"
    (tmp_path / ".env").write_text("TAG=1\nMORE='\n")
    with pytest.raises(DefinitionError) as caught:
        load_stack(f"{tmp_path}/compose.yaml", {})
    assert caught.value.code == "stack.env-file"
    assert str(caught.value.where) == f"{tmp_path}/.env:2:1"


def test_the_variable_with_the_name_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(f"name: mine\n{FILE}")
    assert load_stack(f"{tmp_path}/compose.yaml", {"TAG": ""}).name == "mine"
    assert load_stack(f"{tmp_path}/compose.yaml", {"TAG": "", "COMPOSE_PROJECT_NAME": "yours"}).name == "yours"


def test_what_is_not_read_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "other-compose.yaml").write_text(FILE)
    override = tmp_path / "compose.override.yaml"
    override.write_text("services: {web: {ports: ['80:80']}}\n")
    (note,) = load_stack(f"{tmp_path}/compose.yaml", {"TAG": "1"}).notes
    assert note.startswith(f"{override} is not read")
    assert load_stack(f"{tmp_path}/other-compose.yaml", {"TAG": "1"}).notes == ()
    override.unlink()
    (note,) = load_stack(f"{tmp_path}/compose.yaml", {"TAG": "1", "COMPOSE_FILE": "a.yaml:b.yaml"}).notes
    assert "COMPOSE_FILE" in note
    assert load_stack(f"{tmp_path}/compose.yaml", {"TAG": "1", "COMPOSE_FILE": "./compose.yaml"}).notes == ()
