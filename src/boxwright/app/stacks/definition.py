"""Which file a stack is read from."""

from __future__ import annotations

import os

from boxwright.app.definitions import read_definition
from boxwright.app.recipes import PLACES
from boxwright.errors import DefinitionError, UsageError
from boxwright.frontends.stack.read import read_stack
from boxwright.model.stack import Stack

NAMES = ("autopilot.yaml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OWN = "images/"
"""Before the names of recipes that come with the program."""


def find_stack(given: str | None, directory: str = ".") -> str:
    """The file of a stack. Raises where there is none, or where there are several of one kind."""
    if given is not None and not os.path.isdir(given):
        if not os.path.isfile(given):
            raise UsageError("definition.not-found", f"there is no file {given}")
        return given
    place = given or directory
    found = next((name for name in NAMES if os.path.isfile(os.path.join(place, name))), None)
    if found is None:
        hint = "name one, such as boxwright deploy FILE"
        raise DefinitionError("definition.none", f"{place} holds no stack ({', '.join(NAMES)})", hint=hint)
    return os.path.normpath(os.path.join(place, found))


def load_stack(file: str) -> Stack:
    """Read it. Raises DefinitionError."""
    return read_stack(read_definition(file), file, locate)


def locate(directory: str, text: str) -> str | None:
    """A path that a stack names, from its directory; ``images/NAME`` may be one of the program's own recipes."""
    path = os.path.normpath(os.path.join(directory, os.path.expanduser(text)))
    if os.path.exists(path):
        return path
    name = text.removeprefix("./")
    if name.startswith(OWN) and os.sep not in name.removeprefix(OWN):
        for place in PLACES:
            own = place / name.removeprefix(OWN)
            if own.is_dir():
                return str(own)
    return None
