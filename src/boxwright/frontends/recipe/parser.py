"""Text becomes instructions (the Dockerfile reference, "Format").

One pass over the lines. Nothing is expanded here, so that the result depends on the text alone.
"""

from __future__ import annotations

import posixpath
import re

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.arguments import exec_form, is_mixed_list
from boxwright.frontends.recipe.blanks import BLANK
from boxwright.frontends.recipe.flags import split_flags
from boxwright.frontends.recipe.heredoc import announced
from boxwright.frontends.recipe.keywords import check_flags, check_keyword
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.syntax import Heredoc, Instruction, Recipe
from boxwright.model.span import Span

WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
WITH_LISTS = frozenset({"RUN", "CMD", "ENTRYPOINT", "COPY", "ADD", "VOLUME", "SHELL"})
MAY_BE_EMPTY = frozenset({"CMD", "ENTRYPOINT"})
DESCRIBED = frozenset({"FROM", "ARG"})
DIRECTIVES = frozenset({"syntax", "escape", "check"})

_DIRECTIVE = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(\S.*)")
_WORD = re.compile(r"[^\t\v\f\r ]+")


def parse(text: str, file: str) -> Recipe:
    """The instructions of a recipe. Raises DefinitionError with the place.

    Codes: `recipe.syntax`, `recipe.unknown-instruction`, `recipe.unknown-flag`.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise wrong("there is a NUL character in this line", Span(file, line, 1, line))
    lines = text.removeprefix("\ufeff").split("\n")
    directives, top = _directives(lines, file)
    escape = directives.get("escape", "\\")
    own = takes_own_keywords(file, directives.get("syntax", ""))
    reader = _Reader(lines, file, escape, own=own, top=top)
    return Recipe(tuple(directives.items()), tuple(reader.instructions()), escape)


def takes_own_keywords(file: str, syntax: str) -> bool:
    """Whether PORT and DBASE are instructions in `file`."""
    name = posixpath.basename(file)
    return name == "Recipe" or name.endswith(".recipe") or syntax == "boxwright"


def parse_trigger(text: str, where: Span, escape: str = "\\") -> Instruction:
    """The instruction that an ONBUILD of a base holds; it stands nowhere, so `where` is its place."""
    reader = _Reader(text.split("\n"), where.file, escape, own=True, place=where)
    found = list(reader.instructions())
    if len(found) != 1:
        raise wrong("an ONBUILD of the base is not one instruction", where)
    return found[0]


def _directives(lines: list[str], file: str) -> tuple[dict[str, str], int]:
    """The parser directives, and how many lines they take: up to the first line that is none of them.

    Behind a first line ``#!`` there may be others, but escape is a comment there, as BuildKit has it.
    """
    found: dict[str, str] = {}
    number = 0
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith("#!"):
            continue
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in DIRECTIVES:
            return found, number - 1
        name, value = match[1].lower(), match[2]
        where = Span(file, number, 1, number)
        if name in found:
            raise wrong(f"the directive {name} stands twice", where)
        if name == "escape" and lines[0].startswith("#!"):
            continue
        if name == "escape" and value not in {"\\", "`"}:
            raise wrong(f"the escape character is \\ or `, not {value!r}", where)
        found[name] = value
    return found, number


def _end_of_word(text: str) -> int:
    word = _WORD.match(text)
    return word.end() if word else 0


def _first_word(text: str) -> str:
    """The word that a text begins with, in capitals."""
    return text[: _end_of_word(text)].upper()


class _Reader:
    """Reads instructions off lines."""

    def __init__(
        self, lines: list[str], file: str, escape: str, *, own: bool, place: Span | None = None, top: int = 0
    ) -> None:
        self._lines = lines
        self._file = file
        self._escape = escape
        self._own = own
        self._place = place
        self._top = top
        self._next = 0
        self._gap = 0

    def instructions(self) -> list[Instruction]:
        """All of them, in order."""
        found: list[Instruction] = []
        while self._next < len(self._lines):
            start = self._next
            line = self._lines[start].strip(BLANK)
            if not line or line[0] == "#":
                self._next += 1
                continue
            text = self._logical_line()
            if text:
                found.append(self._instruction(text, start))
        return found

    def _logical_line(self) -> str:
        """The line at hand with its continuation lines; comments and empty lines between them don't count."""
        line, open_ended = self._continued(self._lines[self._next].lstrip(BLANK))
        self._next += 1
        self._gap = 0
        if not open_ended:
            return line.strip(BLANK)
        parts = [line]
        while open_ended and self._next < len(self._lines):
            line = self._lines[self._next]
            self._next += 1
            bare = line.strip(BLANK)
            if not bare:
                self._gap = self._gap or self._next
            elif bare[0] != "#":
                line, open_ended = self._continued(line)
                parts.append(line)
        return "".join(parts).strip(BLANK)

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether it has one: doubled it is an ordinary character."""
        line = line.rstrip("\r")
        bare = line.rstrip(" \t")
        if bare.endswith(self._escape) and not bare.endswith(self._escape * 2):
            return bare[:-1], True
        return line, False

    def _instruction(self, text: str, start: int) -> Instruction:
        keyword = _first_word(text)
        first = self._lines[start]
        column = len(first) - len(first.lstrip(BLANK)) + 1
        place = Span(self._file, start + 1, column, self._next)
        check_keyword(keyword, self._place or place, own=self._own)
        flags, rest = split_flags(text[_end_of_word(text) :].strip(BLANK))
        check_flags(keyword, flags, self._place or place)
        heredocs = self._heredocs(keyword, rest, text, start) if "<<" in text else ()
        span = self._place or Span(self._file, start + 1, column, self._next)
        if not rest and keyword not in MAY_BE_EMPTY:
            raise wrong(f"{keyword} needs arguments", span)
        if rest.startswith("[") and keyword in WITH_LISTS and is_mixed_list(rest):
            raise wrong(f"{keyword}: a list in JSON holds strings only", span, hint='["like", "this"]')
        if keyword == "ONBUILD":
            check_keyword(_first_word(rest), span, own=self._own)
        above = self._comments_above(start) if keyword in DESCRIBED else ()
        return Instruction(keyword, rest, flags, heredocs, span, text, above, self._gap)

    def _comments_above(self, start: int) -> tuple[str, ...]:
        """The comment lines directly above line `start`; parser directives are none."""
        first = start
        while first > self._top and self._lines[first - 1].lstrip(BLANK).startswith("#"):
            first -= 1
        return tuple(line.strip(BLANK)[1:].strip(BLANK) for line in self._lines[first:start])

    def _heredocs(self, keyword: str, rest: str, text: str, start: int) -> tuple[Heredoc, ...]:
        if keyword == "ONBUILD":
            keyword, rest = _first_word(rest), rest[_end_of_word(rest) :]
        if keyword not in WITH_HEREDOCS or exec_form(rest) is not None:
            return ()
        return tuple(self._document(document, start) for document in announced(text))

    def _document(self, announcement: Heredoc, start: int) -> Heredoc:
        """Read the lines of a document, up to the one that is its name alone."""
        begin = self._next
        while self._next < len(self._lines):
            line = self._lines[self._next].rstrip("\r")
            self._next += 1
            if (line.lstrip("\t") if announcement.chomp else line) == announcement.name:
                body = "".join([f"{line}\n" for line in self._lines[begin : self._next - 1]])
                return Heredoc(announcement.name, announcement.expand, announcement.chomp, body)
        where = self._place or Span(self._file, start + 1, 1, len(self._lines))
        hint = f"end it with a line that is {announcement.name} alone"
        raise DefinitionError(
            "recipe.unterminated-heredoc", f"the document {announcement.name} has no end", hint=hint, where=where
        )
