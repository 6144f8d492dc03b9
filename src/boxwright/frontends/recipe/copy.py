"""COPY and ADD of local files (the reference, COPY, ADD and "Here-Documents")."""

from __future__ import annotations

import re
from typing import NamedTuple

from boxwright.frontends.recipe.arguments import words_or_list
from boxwright.frontends.recipe.heredoc import content, parse_word
from boxwright.frontends.recipe.keywords import flag_is_set, flag_value, flag_values
from boxwright.frontends.recipe.problem import not_yet, wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Heredoc, Instruction
from boxwright.frontends.recipe.words import expand
from boxwright.model.step import Copy, InlineSource, Source

_REMOTE = re.compile(r"(?:https?|git|ssh|ftp)://|git@[^/:]+:|github\.com/", re.IGNORECASE)


class CopyWords(NamedTuple):
    """What stands behind COPY: `paths` from a context or a tree, `documents` from the recipe itself."""

    paths: tuple[str, ...]
    documents: tuple[InlineSource, ...]
    destination: str


def copy_words(state: StageState, instruction: Instruction) -> CopyWords:
    """The sources and the destination, with variables replaced. Raises DefinitionError."""
    keyword, where = instruction.keyword, instruction.span
    words = words_or_list(instruction.rest)
    if len(words) < 2:
        raise wrong(f"{keyword} needs a source and a destination", where, hint=f"{keyword} SOURCE... DESTINATION")
    documents = iter(instruction.heredocs)
    inline: list[InlineSource] = []
    paths: list[str] = []
    for word in words[:-1]:
        document = next(documents, None) if instruction.heredocs and parse_word(word) is not None else None
        if document is None:
            paths.append(state.expand(word, where))
        else:
            inline.append(_inline(state, instruction, document))
    if next(documents, None) is not None:
        raise wrong(f"{keyword} can't have a document as its destination", where)
    destination = state.expand(words[-1], where)
    if not destination:
        raise wrong(f"{keyword}: the destination is empty", where)
    if keyword == "ADD" and any(_REMOTE.match(path) for path in paths):
        raise not_yet("ADD of a URL or of a git repository", where)
    destination = state.absolute(destination)
    if len(words) > 2 and not destination.endswith("/"):
        hint = f"write {destination}/"
        raise wrong(f"{keyword} of several sources needs a directory, which ends with /", where, hint=hint)
    return CopyWords(tuple(paths), tuple(inline), destination)


def _inline(state: StageState, instruction: Instruction, document: Heredoc) -> InlineSource:
    text = content(document)
    if document.expand:
        text = expand(text, state.variables, instruction.span, "\\", quotes=False)
    return InlineSource(document.name, text)


def copy_step(state: StageState, instruction: Instruction, sources: tuple[Source, ...], destination: str) -> Copy:
    """The step. ``--link`` asks for a layer that stands alone, and an image without layers has no use for it."""
    flags, where = instruction.flags, instruction.span
    if flag_value(flags, "checksum") or flag_is_set(flags, "keep-git-dir"):
        raise wrong("--checksum and --keep-git-dir are for what ADD fetches", where)
    return Copy(
        sources=sources,
        destination=destination,
        owner=state.expand(flag_value(flags, "chown") or "", where),
        mode=state.expand(flag_value(flags, "chmod") or "", where),
        unpack=instruction.keyword == "ADD" and flag_is_set(flags, "unpack", default=True),
        parents=flag_is_set(flags, "parents"),
        exclude=tuple(state.expand(pattern, where) for pattern in flag_values(flags, "exclude")),
    )
