"""Which file a stack is read from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from boxwright.app.definitions import read_definition
from boxwright.app.recipes import PLACES
from boxwright.errors import DefinitionError, UsageError
from boxwright.frontends.stack.read import read_stack
from boxwright.model.stack import NATIVE, Stack

NAMES = ("autopilot.yaml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = tuple(f"{name}.override.{end}" for name in ("compose", "docker-compose") for end in ("yaml", "yml"))
"""What docker compose merges into a file that it found by itself."""
OWN = "images/"
"""Before the names of recipes that come with the program."""


def stack_files(directory: str = ".") -> tuple[str, ...]:
    """The names of the definitions of stacks in a directory."""
    return tuple(name for name in NAMES if os.path.isfile(os.path.join(directory, name)))


def find_stack(given: str | None, directory: str = ".") -> str:
    """The file of a stack. Raises where there is none, or several and none was named."""
    if given is not None and not os.path.isdir(given):
        if not os.path.isfile(given):
            raise UsageError("definition.not-found", f"there is no file {given}")
        return given
    place = given or directory
    found = stack_files(place)
    if not found:
        hint = "name one, such as boxwright deploy FILE"
        raise DefinitionError("definition.none", f"{place} holds no stack ({', '.join(NAMES)})", hint=hint)
    if len(found) > 1:
        hint = f"name one, such as {os.path.normpath(os.path.join(place, found[0]))}"
        raise DefinitionError("definition.several", f"{place} holds {' and '.join(found)}", hint=hint)
    return os.path.normpath(os.path.join(place, found[0]))


def load_stack(
    file: str, environment: Mapping[str, str] = MappingProxyType({}), profiles: Sequence[str] = (), engine: str = NATIVE
) -> Stack:
    """Read it, an autopilot.yaml or a Compose file. Raises DefinitionError.

    `environment` and `profiles` are for Compose files, which also can't say which `engine` runs them.
    """
    text = read_definition(file)
    if not is_compose(file, text):
        if profiles:
            raise UsageError("usage.profile", f"{file} has no profiles: they are of Compose files")
        return read_stack(text, file, locate)
    from boxwright.frontends.stack.compose import PROJECT, read_compose
    from boxwright.frontends.stack.composemounts import ComposeWorld
    from boxwright.frontends.stack.envfile import env_file

    directory = os.path.dirname(os.path.abspath(file))
    beside = f"{directory}/.env"
    variables = dict(environment)
    if os.path.isfile(beside):
        variables = {**env_file(read_definition(beside), beside, environment), **environment}
    chosen = tuple(profiles) or tuple(it.strip() for it in variables.get("COMPOSE_PROFILES", "").split(",") if it)
    project = variables.get(PROJECT, "")
    world = ComposeWorld(locate, read_definition, variables, chosen, project, engine, os.path.basename(directory))
    stack = read_compose(text, file, world)
    return stack._replace(notes=(*_not_read(file, variables.get("COMPOSE_FILE", "")), *stack.notes))


def _not_read(file: str, files: str) -> tuple[str, ...]:
    """What docker compose would read beside a file: what changes it, and what a variable names."""
    directory, name = os.path.split(file)
    found: list[str] = []
    if name in NAMES:
        beside = (os.path.join(directory, it) for it in OVERRIDES)
        found += [
            f"{path} is not read ('docker compose config' writes one file of both)"
            for path in beside
            if os.path.isfile(path)
        ]
    if files and [os.path.basename(it) for it in files.split(os.pathsep)] != [name]:
        found.append(f"COMPOSE_FILE is not followed: {file} is read")
    return tuple(found)


def is_compose(file: str, text: str) -> bool:
    """By its name, or by its key `services`."""
    return "compose" in os.path.basename(file) or (text.startswith("services:") or "\nservices:" in text)


def locate(directory: str, text: str) -> str | None:
    """The absolute path of what a stack names, from its directory; ``images/NAME`` may be a recipe of the program."""
    path = os.path.abspath(os.path.join(directory, os.path.expanduser(text)))
    if os.path.exists(path):
        return path
    name = text.removeprefix("./")
    if name.startswith(OWN) and os.sep not in name.removeprefix(OWN):
        for place in PLACES:
            own = place / name.removeprefix(OWN)
            if own.is_dir():
                return str(own)
    return None
