"""Recipes that come with the program, such as those of DBASE's servers."""

from __future__ import annotations

from pathlib import Path

from boxwright.app.definitions import read_definition
from boxwright.errors import MachineError

_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "images")
"""Of an installed program, and of a checkout."""


def own_recipe(name: str) -> tuple[str, str]:
    """The text and the path of ``images/NAME/Recipe``. Raises MachineError `program.incomplete`."""
    for place in PLACES:
        file = place / name / "Recipe"
        if file.is_file():
            return read_definition(str(file)), str(file)
    raise MachineError("program.incomplete", f"the recipe {name} of this program is missing", hint="install it again")
