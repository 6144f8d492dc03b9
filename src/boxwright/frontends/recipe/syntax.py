"""What a recipe's text says, before anything of it is worked out."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.span import Span


class Heredoc(NamedTuple):
    """A here-document (the reference, "Here-Documents"): `expand` unless a part of its word is quoted.

    `text` is what stands between the word and its end, `chomp` (``<<-``) says that leading tabs don't count.
    """

    name: str
    expand: bool
    chomp: bool
    text: str = ""


class Flag(NamedTuple):
    """``--name=value``; `value` is None where there is no equals sign."""

    name: str
    value: str | None


class Instruction(NamedTuple):
    """One instruction: `keyword` in capitals, `rest` without flags and with continuation lines joined.

    `text` is the whole as it was written, on one line. ONBUILD keeps the documents of the instruction that it holds.
    `above` is the comment lines directly above a FROM or an ARG, without their hash; `gap` the line number of the first
    empty line inside the instruction, 0 without.
    """

    keyword: str
    rest: str
    flags: tuple[Flag, ...]
    heredocs: tuple[Heredoc, ...]
    span: Span
    text: str
    above: tuple[str, ...] = ()
    gap: int = 0


class Recipe(NamedTuple):
    """A file's instructions; `directives` are its parser directives ("Parser directives") by name."""

    directives: tuple[tuple[str, str], ...]
    instructions: tuple[Instruction, ...]
    escape: str = "\\"
