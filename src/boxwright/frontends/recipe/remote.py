"""What ADD takes from elsewhere: files of web servers, and git repositories (the reference, ADD)."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.keywords import flag_is_set, flag_value
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.model.giturl import parse_git_url, redacted
from boxwright.model.step import Fetch, RemoteSource

UNNAMED = "__unnamed__"
"""The name of a file whose address has none, as BuildKit has it."""

_HTTP = re.compile(r"https?://", re.IGNORECASE)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def is_remote(word: str) -> bool:
    """Whether ADD fetches it."""
    repository = parse_git_url(word)
    return (repository is not None and not repository.bare) or _HTTP.match(word) is not None


def fetched(state: StageState, instruction: Instruction, word: str) -> tuple[Fetch, RemoteSource]:
    """What is fetched, and what of it is taken, as the first input after the state."""
    where = instruction.span
    checksum = state.expand(flag_value(instruction.flags, "checksum") or "", where)
    repository = parse_git_url(word)
    if repository is not None:
        if checksum and not _COMMIT.fullmatch(checksum):
            raise _checksum(instruction, checksum, "the digits of a commit, at least seven")
        keep = flag_is_set(instruction.flags, "keep-git-dir")
        path = posixpath.normpath("/" + repository.subdirectory).lstrip("/")
        step = Fetch("git", repository.remote, checksum, repository.ref, keep)
        return step, RemoteSource(path, posixpath.basename(path), 1)
    if flag_is_set(instruction.flags, "keep-git-dir"):
        raise wrong("--keep-git-dir is for git repositories", where, hint="an address of one ends in .git")
    if checksum and not _SHA256.fullmatch(checksum):
        raise _checksum(instruction, checksum, "sha256: and 64 hexadecimal digits")
    try:
        path = unquote(urlsplit(word).path)
    except ValueError as error:
        raise wrong(f"{redacted(word)} is no address: {error}", where) from error
    name = posixpath.basename(path.rstrip("/"))
    if name in {"", ".", ".."} or "\0" in name:
        name = UNNAMED
    return Fetch("http", word, checksum), RemoteSource("content", name, 1)


def _checksum(instruction: Instruction, checksum: str, wanted: str) -> DefinitionError:
    message = f"--checksum={checksum} is none that can be checked"
    return DefinitionError("recipe.checksum", message, hint=f"expected: {wanted}", where=instruction.span)
