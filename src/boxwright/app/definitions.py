"""Which definition a directory holds."""

from __future__ import annotations

import os

from boxwright.errors import DefinitionError, UsageError

RECIPES = ("Recipe", "Dockerfile", "Containerfile")
PACKAGE = "pkg.yaml"
CONTAINER = "container.yaml"
MANIFESTS = ("manifest.yaml", "boxwright.yaml")
TRAVIS = ".travis.yml"
DEFINITIONS = (*RECIPES, PACKAGE, CONTAINER, *MANIFESTS)
LOCK = "boxwright.lock"


def find_definition(directory: str, given: str | None, *, called: str = "") -> str:
    """The file that says what to build. Raises where there is none, or several and none was named.

    `called` is what the directory is called in an error.
    """
    called = called or directory
    if given is not None:
        candidates = (given, os.path.join(directory, given))
        found = next((path for path in candidates if os.path.isfile(path)), None)
        if found is None:
            raise UsageError("definition.not-found", f"there is no file {given}")
        return found
    if not os.path.isdir(directory):
        raise UsageError("definition.not-found", f"there is no directory {called}")
    present = [name for name in DEFINITIONS if os.path.isfile(os.path.join(directory, name))]
    if not present and os.path.isfile(os.path.join(directory, TRAVIS)):
        present = [TRAVIS]  # many projects have one beside what builds them: it counts where nothing else is there
    if not present:
        raise DefinitionError(
            "definition.none",
            f"{called} holds no definition ({', '.join(DEFINITIONS)})",
            hint="name one with -f FILE",
        )
    if len(present) > 1:
        raise DefinitionError(
            "definition.several",
            f"{called} holds {' and '.join(present)}",
            hint=f"name one, such as -f {present[0]}",
        )
    return os.path.join(directory, present[0])


def find_inside(directory: str, given: str | None) -> str:
    """The same in a context that a stranger may have made: no symbolic link leads out of it."""
    if given is not None and not os.path.isfile(os.path.join(directory, given)):
        raise UsageError("definition.not-found", f"the context holds no file {given}")
    path = None if given is None else os.path.join(directory, given)
    found = find_definition(directory, path, called="the context")
    if not is_inside(directory, found):
        raise DefinitionError("definition.outside", f"{os.path.relpath(found, directory)} leads out of the context")
    return found


def is_inside(directory: str, path: str) -> bool:
    """Whether `path`, with all symbolic links followed, lies below `directory`."""
    place = os.path.realpath(directory)
    return os.path.commonpath((place, os.path.realpath(path))) == place


def lock_path(file: str) -> str:
    """Where the lock of a definition is."""
    return os.path.join(os.path.dirname(os.path.abspath(file)), LOCK)


def is_package(file: str) -> bool:
    """Whether a definition is a package's."""
    return os.path.basename(file) == PACKAGE


def is_container(file: str) -> bool:
    """Whether a definition is that of a container composed of packages."""
    return os.path.basename(file) == CONTAINER


def is_manifest(file: str) -> bool:
    """Whether a definition is a manifest: one of its names, or any other YAML file that is none of the others."""
    name = os.path.basename(file)
    return name in (*MANIFESTS, TRAVIS) or (name.endswith((".yaml", ".yml")) and name not in (PACKAGE, CONTAINER))


def read_definition(file: str) -> str:
    """The text of a definition."""
    try:
        with open(file, encoding="utf-8", newline="") as text:
            return text.read()
    except UnicodeDecodeError as error:
        raise DefinitionError("definition.encoding", f"{file} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UsageError("definition.not-found", f"{file} can't be read: {error.strerror}") from error
