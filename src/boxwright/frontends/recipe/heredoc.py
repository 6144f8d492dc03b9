"""Here-documents: which words announce one, and how their text is read (the reference, "Here-Documents")."""

from __future__ import annotations

import re

from boxwright.frontends.recipe.syntax import Heredoc

_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|\\\Z|'[^']*'|"[^"\\]*(?:\\.[^"\\]*)*")+""", re.DOTALL)
_ANNOUNCEMENT = re.compile(r"\d*<<(-?)([^<]+)", re.DOTALL)
_QUOTED = re.compile(r"""\\(.)|\\\Z|'([^']*)'|"([^"\\]*(?:\\.[^"\\]*)*)\"""", re.DOTALL)
_ESCAPED = re.compile(r'\\(["$\\])')
_TABS = re.compile(r"^\t+", re.MULTILINE)


def announced(line: str) -> tuple[Heredoc, ...]:
    """The documents that a line announces, without their text; none where its quotes don't close."""
    words = _words(line)
    found = [parse_word(word) for word in words or ()]
    return tuple(document for document in found if document is not None)


def parse_word(word: str) -> Heredoc | None:
    """What one word such as ``<<-"EOF"`` announces."""
    match = _ANNOUNCEMENT.fullmatch(word)
    if match is None:
        return None
    words = _words(match[2])
    if words is None or len(words) != 1:
        return None
    name = _QUOTED.sub(_unquoted, words[0])
    if not name:
        return None
    return Heredoc(name, expand=name == words[0], chomp=match[1] == "-")


def content(document: Heredoc) -> str:
    """Its text as the reader gets it, before expansion."""
    return _TABS.sub("", document.text) if document.chomp else document.text


def _words(text: str) -> list[str] | None:
    words: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            return words
        match = _WORD.match(text, position)
        if match is None or (match.end() < len(text) and not text[match.end()].isspace()):
            return None
        words.append(match[0])
        position = match.end()


def _unquoted(match: re.Match[str]) -> str:
    if match[3] is not None:
        return _ESCAPED.sub(r"\1", match[3])
    return match[1] or match[2] or ""
