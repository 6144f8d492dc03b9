"""Files of variables, as Compose reads them: ``env_file`` and ``.env`` (Compose, "Syntax for environment files")."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping as Map
from types import MappingProxyType

from boxwright.errors import DefinitionError
from boxwright.frontends.stack.composetext import substitute
from boxwright.frontends.stack.problem import wrong
from boxwright.model.span import Span

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
"""What may stand before a variable."""
_EXPORT = re.compile(r"export[^\S\n]+(?=\S)")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_BETWEEN = re.compile(r"[^\S\n]*([=:])?")
_SPACE = re.compile(r"[^\S\n]*")
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LINE = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"\s#.*")
_AFTER = re.compile(r"[^\S\n]*(?:#[^\n]*)?(?=\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}


def env_file(
    text: str, file: str, variables: Map[str, str], before: Map[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The variables of a file; in values that are not in single quotes others are put in.

    Those are of `variables` first, then earlier ones of the file, then `before`. A name alone takes its value from
    `variables`. Raises DefinitionError `stack.env-file` or `stack.variable`.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    known = ChainMap(dict(variables), found, dict(before))
    at = _end(_BLANK, text, 0)
    while at < len(text):
        where = Span(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
        exported = _EXPORT.match(text, at)
        name = _NAME.match(text, exported.end() if exported else at)
        between = _BETWEEN.match(text, name.end()) if name else None
        if name is None or between is None:
            raise _no_variable(text, at, where)
        at = between.end()
        if between[1]:
            found[name[0]], at = _value(text, at, known, where)
        elif _AFTER.match(text, at) is None:
            raise _no_variable(text, name.start(), where)
        elif name[0] in variables:
            found[name[0]] = variables[name[0]]
        at = _end(_BLANK, text, at)
    return found


def raw_env_file(text: str) -> dict[str, str]:
    """The variables of a file in the format ``raw``: what follows ``=`` is the value, whatever it is."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return {name.strip(): value for name, equals, value in (line.partition("=") for line in lines) if equals}


def _value(text: str, at: int, known: Map[str, str], where: Span) -> tuple[str, int]:
    """The value at `at`, and where it ends."""
    begin = _end(_SPACE, text, at)
    quote = text[begin : begin + 1]
    if quote not in ("'", '"'):
        end = _end(_LINE, text, at)
        return _substituted(_COMMENT.sub("", text[at:end]).strip(), known, where), end
    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, begin)
    if quoted is None:
        raise wrong("env-file", f"the quote {quote} is not closed", where)
    if _AFTER.match(text, quoted.end()) is None:
        raise wrong("env-file", "only a comment may follow after the closing quote", where)
    if quote == "'":
        return quoted[1].replace("\\'", "'"), quoted.end()
    unescaped = _ESCAPE.sub(lambda it: _ESCAPES.get(it[1], it[1]), quoted[1])
    return _substituted(unescaped, known, where), quoted.end()


def _substituted(text: str, known: Map[str, str], where: Span) -> str:
    try:
        return substitute(text, known, where, lambda _: None)
    except DefinitionError as error:
        error.hint = error.hint or "in single quotes a value is taken as it is"
        raise


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _no_variable(text: str, at: int, where: Span) -> DefinitionError:
    line = text[at:].split("\n", 1)[0]
    return wrong("env-file", f"{line[:60]!r} is no variable", where, hint="NAME=VALUE, or # and a comment")
