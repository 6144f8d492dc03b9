from __future__ import annotations

from pathlib import Path

import pytest

from boxwright.app.shells import ShellRequest
from boxwright.cli.excerpt import source_lines
from boxwright.cli.failure import shell_command
from boxwright.model.digest import digest_of
from boxwright.model.span import Span


def test_the_failing_lines_are_marked(tmp_path: Path) -> None:
    recipe = tmp_path / "Recipe"
    recipe.write_text("".join(f"line {n}\n" for n in range(1, 11)))
    assert source_lines(Span(str(recipe), 4, 1, 5), str(recipe)) == [
        "  2 | line 2",
        "  3 | line 3",
        "> 4 | line 4",
        "> 5 | line 5",
        "  6 | line 6",
        "  7 | line 7",
    ]
    assert source_lines(Span(str(recipe), 10), str(recipe))[-1] == "> 10 | line 10"


def test_a_long_step_is_shortened(tmp_path: Path) -> None:
    recipe = tmp_path / "Recipe"
    recipe.write_text("x\n" * 100)
    lines = source_lines(Span(str(recipe), 10, 1, 90), str(recipe))
    assert len(lines) < 25
    assert sum(line.endswith("| ...") for line in lines) == 1


@pytest.mark.parametrize("where", [Span("-", 1), Span("/nowhere/Recipe", 1)])
def test_what_can_not_be_read_again_is_not_shown(where: Span) -> None:
    assert source_lines(where, where.file) == []


def test_the_command_for_a_shell_can_be_pasted() -> None:
    key = digest_of(b"")
    request = ShellRequest(key, env=(("A", "b c"),), cwd="/src", user="app", network="none")
    assert shell_command(request) == (
        f"boxwright shell --state {key} --workdir /src --user app --network none --env 'A=b c'"
    )
    assert shell_command(ShellRequest(key)) == f"boxwright shell --state {key}"
