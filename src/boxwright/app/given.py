"""What the command line gives as a build context: a directory, a tar, an address, standard input.

All but a directory becomes one for the time of the build (docker build, "Build context").
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import BinaryIO

from boxwright.app.definitions import find_inside, read_definition
from boxwright.app.givens import Given, Named
from boxwright.app.remotes import CONTENT, Remotes
from boxwright.errors import BoxwrightError, DefinitionError, UsageError
from boxwright.model.giturl import GitUrl, parse_git_url
from boxwright.model.step import Fetch
from boxwright.store.store import Store

STANDARD_INPUT = "-"
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_LONGEST_TEXT = 16 << 20


def is_plain(word: str) -> bool:
    """Whether a context is a directory of this machine, or nothing at all."""
    return word != STANDARD_INPUT and (os.path.isdir(word) or not _is_elsewhere(word)) and not os.path.isfile(word)


def _is_elsewhere(word: str) -> bool:
    return _HTTP.match(word) is not None or parse_git_url(word) is not None


def open_context(word: str, store: Store, stdin: BinaryIO | None, *, keep_git_dir: bool = False) -> Given:
    """The context that `word` names. Raises UsageError or FetchError."""
    if is_plain(word):
        return Given(word)
    if word == STANDARD_INPUT:
        return _from_stream(store, stdin)
    if os.path.isfile(word):
        return _from_file(store, word, remove=False)
    repository = parse_git_url(word)
    if repository is not None:
        return _from_repository(repository, store, keep_git_dir=keep_git_dir)
    directory = store.scratch()
    remotes, step = Remotes(store), Fetch("http", word)
    remotes.fetch(step, remotes.identify(step), directory, lambda: False)
    return _from_file(store, f"{directory}/{CONTENT}", remove=True)


def _from_repository(url: GitUrl, store: Store, *, keep_git_dir: bool) -> Given:
    directory = store.scratch()
    remotes, step = Remotes(store), Fetch("git", url.remote, ref=url.ref, keep_git_dir=keep_git_dir)
    remotes.fetch(step, remotes.identify(step), directory, lambda: False)
    committed = int(os.stat(directory).st_mtime)
    place = os.path.realpath(f"{directory}/{url.subdirectory}")
    if os.path.commonpath((place, os.path.realpath(directory))) != os.path.realpath(directory) or not os.path.isdir(
        place
    ):
        raise UsageError("context.not-found", f"{url.remote} has no directory {url.subdirectory!r}")
    return Given(place, fetched=True, committed=committed)


def _from_stream(store: Store, stdin: BinaryIO | None) -> Given:
    if stdin is None:
        raise UsageError(
            "usage.stdin", "standard input can be read only once", hint="give the context or -f another way"
        )
    path = f"{store.scratch()}/input"
    with open(path, "wb") as file:
        shutil.copyfileobj(stdin, file, 1 << 20)
    if not os.path.getsize(path):
        raise UsageError(
            "usage.stdin", "standard input is empty", hint="a tar of a context, or a definition, is expected"
        )
    return _from_file(store, path, remove=True)


def _from_file(store: Store, path: str, *, remove: bool) -> Given:
    """A tar is a context; any other text is a definition that needs none."""
    from boxwright.app.privileges import ensure_privileges
    from boxwright.sources.unpack import is_archive, unpack_tar

    directory = store.scratch()
    if is_archive(path):
        ensure_privileges()
        unpack_tar(path, directory)
        text = None
    elif os.path.getsize(path) > _LONGEST_TEXT:
        raise DefinitionError("context.kind", f"{os.path.basename(path)} is neither a tar nor a definition")
    else:
        text = read_definition(path)
    if remove:
        os.unlink(path)
    return Given(directory, fetched=True, text=text)


def definition_of(given: Given, file: str | None) -> tuple[str, str]:
    """The definition's file (``-`` where it has none) and its text: what came instead of a context, or a file in it."""
    if given.text is not None:
        if file is not None:
            raise UsageError("usage.file", f"-f {file}: what was given as the context is a definition itself")
        return STANDARD_INPUT, given.text
    found = find_inside(given.directory, file)
    return found, read_definition(found)


def named_contexts(given: Mapping[str, str]) -> Named:
    """Sort the values of ``--build-context`` (docker buildx build, "Additional build contexts")."""
    images: dict[str, str] = {}
    aliases: dict[str, str] = {}
    trees: dict[str, str] = {}
    for name, value in given.items():
        kind, separator, rest = value.partition("://")
        if separator and kind in ("docker-image", "oci-layout"):
            images[name] = rest if kind == "docker-image" else f"oci:{rest}"
        elif value.startswith("target:"):
            aliases[name] = value.removeprefix("target:")
        elif value == STANDARD_INPUT or value.startswith("input:") or (separator and not _is_elsewhere(value)):
            hint = "a directory, a tar, an address, docker-image://NAME, oci-layout://DIRECTORY or target:STAGE"
            raise UsageError("usage.build-context", f"--build-context {name}={value}: what is that?", hint=hint)
        else:
            trees[name] = value
    return Named(images, aliases, trees)


def open_named(word: str, name: str, store: Store) -> Given:
    """The tree of a named context."""
    given = open_context(word, store, None)
    if given.text is not None:
        raise BoxwrightError("context.kind", f"--build-context {name}={word} is no tar and no directory")
    return given
