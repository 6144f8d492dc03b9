"""Rules on what RUN, COPY, ADD and WORKDIR do."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from boxwright.frontends.recipe.arguments import exec_form, words_or_list
from boxwright.frontends.recipe.checks.facts import Facts
from boxwright.frontends.recipe.checks.finding import Found
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.syntax import Instruction

_REMOTE = re.compile(r"[a-z]+://|git@|<<", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tzst|tar\.\w+)$|[*?\[]", re.IGNORECASE)
_ONLY_CD = re.compile(r"cd\s+[^;&|\s]+")
_APT_INSTALL = re.compile(
    r"\bapt(?:-get)?\b(?:\s+-[^\s;&|]+)*\s+(?:install|upgrade|dist-upgrade|full-upgrade)\b([^;&|]*)"
)
_APT_UPDATE = re.compile(r"\bapt(?:-get)?\b(?:\s+-[^\s;&|]+)*\s+update\b")
_YES = re.compile(r"(?:^|\s)(?:-[a-zA-Z]*y[a-zA-Z]*|--yes|--assume-yes|-qq|-q=2|--simulate|-s)(?:\s|=|$)")


def relative_workdir(facts: Facts) -> Iterator[Found]:
    """A relative WORKDIR depends on the base's."""
    for stage in facts.stages:
        known = any(_sets_directory(item) for other in stage.ancestors()[1:] for item in other.instructions)
        for item in stage.instructions:
            if item.keyword != "WORKDIR":
                continue
            if not known and not _sets_directory(item):
                message = f"where WORKDIR {item.rest} leads depends on the base"
                yield Found(item.span, message, f"WORKDIR /{item.rest}")
            known = True


def _sets_directory(item: Instruction) -> bool:
    return item.keyword == "WORKDIR" and item.rest.lstrip("\"'").startswith(("/", "$"))


def ignored_file(facts: Facts) -> Iterator[Found]:
    """COPY of what .dockerignore leaves out."""
    if facts.ignored is None:
        return
    for item in facts.recipe.instructions:
        if item.keyword not in {"COPY", "ADD"} or flag_value(item.flags, "from"):
            continue
        for word in words_or_list(item.rest)[:-1]:
            path = posixpath.normpath(word.strip("\"'").lstrip("/"))
            is_plain = path != "." and not any(mark in word for mark in "*?[$\\") and not _REMOTE.match(word)
            if is_plain and facts.ignored(path):
                message = f"'{path}' is left out of the context by .dockerignore"
                yield Found(item.span, message, f"add '!{path}' to .dockerignore")


def add_of_files(facts: Facts) -> Iterator[Found]:
    """ADD of plain files."""
    for item in facts.recipe.instructions:
        if item.keyword == "ADD":
            words = words_or_list(item.rest)[:-1]
            if words and not any("$" in word or _REMOTE.match(word) or _ARCHIVE.search(word) for word in words):
                yield Found(item.span, "ADD unpacks archives and fetches; nothing here needs it", "COPY copies files")


def lone_cd(facts: Facts) -> Iterator[Found]:
    """``cd`` holds for its own RUN only."""
    for item, text in _commands(facts):
        if _ONLY_CD.fullmatch(text):
            yield Found(item.span, "cd holds for this RUN alone", f"WORKDIR {text[2:].strip()}")


def lone_update(facts: Facts) -> Iterator[Found]:
    """A list of packages that is cached grows stale."""
    for item, text in _commands(facts):
        if _APT_UPDATE.search(text) and not _APT_INSTALL.search(text):
            message = "apt-get update in a RUN of its own is cached, and the packages below it grow stale"
            yield Found(item.span, message, "RUN apt-get update && apt-get install ...")


def apt_asks(facts: Facts) -> Iterator[Found]:
    """A question that nobody answers."""
    for item, text in _commands(facts):
        for match in _APT_INSTALL.finditer(text):
            if not _YES.search(match[0]):
                yield Found(item.span, "apt-get asks a question here, and nobody answers", "apt-get install -y ...")


def _commands(facts: Facts) -> Iterator[tuple[Instruction, str]]:
    """The RUN instructions in shell form with their text."""
    for item in facts.recipe.instructions:
        if item.keyword == "RUN" and exec_form(item.rest) is None:
            yield item, item.rest + "".join(f"\n{document.text}" for document in item.heredocs)
