"""The flags before an instruction's arguments."""

from __future__ import annotations

from boxwright.frontends.recipe.syntax import Flag


def split_flags(rest: str) -> tuple[tuple[Flag, ...], str]:
    """The leading ``--name=value`` words, and what follows them. ``--`` alone ends them.

    Quotes and backslashes in a flag are taken off, whatever the escape directive says.
    """
    if not rest.startswith("--"):
        return (), rest
    flags: list[Flag] = []
    position = 0
    while rest.startswith("--", position):
        word, position = _word(rest, position)
        position = _skip(rest, position)
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        flags.append(Flag(name, value if equals else None))
    return tuple(flags), rest[position:]


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _word(text: str, position: int) -> tuple[str, int]:
    """The word at `position` without its quotes, and where it ends."""
    parts: list[str] = []
    quote = ""
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 1
            char = text[position : position + 1]
            parts.append(char)
        elif quote:
            if char == quote:
                quote = ""
            else:
                parts.append(char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            break
        else:
            parts.append(char)
        position += 1
    return "".join(parts), min(position, len(text))
