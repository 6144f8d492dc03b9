"""COPY and ADD (the reference, COPY, ADD and "Here-Documents")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.arguments import words_or_list
from boxwright.frontends.recipe.heredoc import content, parse_word
from boxwright.frontends.recipe.keywords import flag_is_set, flag_value, flag_values
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Heredoc, Instruction
from boxwright.frontends.recipe.words import expand
from boxwright.model.span import Span
from boxwright.model.step import Copy, InlineSource, Source

_MAY_BE_REMOTE = re.compile(r"[A-Za-z]+://|[^/]*@[^/]*:")


class CopyWords(NamedTuple):
    """What stands behind COPY: `paths` from a context or a tree, `documents` from the recipe itself.

    `remote` are the words among `paths` that name something elsewhere.
    """

    paths: tuple[str, ...]
    documents: tuple[InlineSource, ...]
    destination: str
    remote: frozenset[str] = frozenset()

    def groups(self) -> Iterator[tuple[str, ...]]:
        """`paths` in order, each remote one alone, neighbouring others together."""
        together: tuple[str, ...] = ()
        for path in self.paths:
            if path not in self.remote:
                together = (*together, path)
                continue
            if together:
                yield together
            together = ()
            yield (path,)
        if together:
            yield together


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
    destination = state.absolute(destination)
    return CopyWords(tuple(paths), tuple(inline), destination, _remote(instruction, paths))


def _remote(instruction: Instruction, paths: list[str]) -> frozenset[str]:
    candidates = [path for path in paths if _MAY_BE_REMOTE.match(path)]
    if not candidates:
        return frozenset()
    from boxwright.frontends.recipe.remote import is_remote

    found = frozenset(path for path in candidates if is_remote(path))
    if found and instruction.keyword == "COPY":
        raise wrong(f"COPY takes nothing from elsewhere: {min(found)}", instruction.span, hint="ADD does")
    return found


def _inline(state: StageState, instruction: Instruction, document: Heredoc) -> InlineSource:
    text = content(document)
    if document.expand:
        text = expand(text, state.variables, instruction.span, "\\", quotes=False)
    return InlineSource(document.name, text)


def copy_step(
    state: StageState, instruction: Instruction, sources: tuple[Source, ...], destination: str, *, remote: bool = False
) -> Copy:
    """The step. ``--link`` asks for a layer that stands alone, and an image without layers has no use for it.

    What is `remote` is unpacked only where that is asked for, a local archive unless it is refused.
    """
    flags, where = instruction.flags, instruction.span
    if not remote and (flag_value(flags, "checksum") or flag_is_set(flags, "keep-git-dir")):
        raise wrong("--checksum and --keep-git-dir are for what ADD fetches", where)
    return Copy(
        sources=sources,
        destination=destination,
        owner=state.expand(flag_value(flags, "chown") or "", where),
        mode=_mode(state.expand(flag_value(flags, "chmod") or "", where), where),
        unpack=instruction.keyword == "ADD" and flag_is_set(flags, "unpack", default=not remote),
        parents=not remote and flag_is_set(flags, "parents"),
        exclude=tuple(state.expand(pattern, where) for pattern in flag_values(flags, "exclude")),
    )


def _mode(text: str, where: Span) -> str:
    if not text:
        return text
    from boxwright.model.mode import parse_mode

    try:
        parse_mode(text)
    except ValueError as error:
        hint = "octal, such as 0755, or symbolic, such as u=rwX,go=rX"
        raise DefinitionError("recipe.mode", f"--chmod={text}: {error}", hint=hint, where=where) from error
    return text
