"""Variables and quotes in arguments (the Dockerfile reference, "Environment replacement").

Not a shell: single quotes keep everything, double quotes keep all but variables, and an escape character keeps the next
one. What a variable holds is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.blanks import BLANKS, split
from boxwright.frontends.recipe.patterns import BadEscapeError, replace, trim_end, trim_start
from boxwright.model.span import Span

DEEPEST = 50
SHOWN = 80
LARGEST = 1 << 20
_NAME = re.compile(r"[0-9]+|[@*#?\-$!]|[^\W\d]\w*")
_SPECIAL = frozenset("$'\"\\`")


def expand(text: str, env: Mapping[str, str], where: Span, escape: str = "\\", *, quotes: bool = True) -> str:
    """`text` as one word. Without `quotes` (documents) they are ordinary characters.

    Raises DefinitionError `recipe.substitution` at `where`.
    """
    if _SPECIAL.isdisjoint(text):
        return text
    found = _Lexer(text, env, where, escape, quotes=quotes).until("")[0]
    if len(found) > len(text) + LARGEST:
        # ENV a=$a$a, sixty times over, would fill the memory.
        raise DefinitionError("recipe.substitution", f"the value becomes longer than {LARGEST} characters", where=where)
    return found


def expand_words(text: str, env: Mapping[str, str], where: Span, escape: str = "\\") -> list[str]:
    """`text` as words: white space separates them, in the value of a variable too, but not within quotes."""
    if _SPECIAL.isdisjoint(text):
        return split(text)
    return _Lexer(text, env, where, escape, quotes=True).until("")[1].finished()


class _Words:
    """Words that are being gathered. Empty ones don't count."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._word: list[str] = []

    def split(self, text: str) -> None:
        """Add text in which white space separates."""
        for char in text:
            if char not in BLANKS:
                self._word.append(char)
            elif self._word:
                self._close()

    def keep(self, text: str) -> None:
        """Add text in which it doesn't."""
        if text:
            self._word.append(text)

    def finished(self) -> list[str]:
        """All words."""
        if self._word:
            self._close()
        return self._done

    def _close(self) -> None:
        self._done.append("".join(self._word))
        self._word = []


class _Lexer:
    """Goes through one text once."""

    def __init__(self, text: str, env: Mapping[str, str], where: Span, escape: str, *, quotes: bool) -> None:
        self._text = text
        self._env = env
        self._where = where
        self._escape = escape
        self._quotes = quotes
        self._position = 0
        self._depth = 0

    def until(self, stop: str, *, keep_escapes: bool = False) -> tuple[str, _Words]:
        """What stands before `stop`, which is passed; "" is the end of the text."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong("substitutions are nested too deeply")
        parts: list[str] = []
        words = _Words()
        while self._position < len(self._text):
            char = self._text[self._position]
            if char == stop:
                self._position += 1
                self._depth -= 1
                return "".join(parts), words
            if char == "$":
                value = self._variable()
                words.split(value)
            elif self._quotes and char in "'\"":
                value = self._single_quoted() if char == "'" else self._double_quoted(keep_escapes=keep_escapes)
                words.keep(value)
            elif char == self._escape:
                value = self._escaped(keep_escapes=keep_escapes)
                words.keep(value)
            else:
                value = char
                self._position += 1
                words.split(value)
            parts.append(value)
        if stop:
            raise self._wrong(f"{stop!r} is missing")
        self._depth -= 1
        return "".join(parts), words

    def _escaped(self, *, keep_escapes: bool) -> str:
        char = self._text[self._position + 1 : self._position + 2]
        self._position += 2
        return self._escape + char if keep_escapes else char

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            raise self._wrong("a single quote isn't closed")
        value = self._text[self._position + 1 : end]
        self._position = end + 1
        return value

    def _double_quoted(self, *, keep_escapes: bool) -> str:
        self._position += 1
        parts: list[str] = []
        while self._position < len(self._text):
            char = self._text[self._position]
            if char == '"':
                self._position += 1
                return "".join(parts)
            if char == "$":
                parts.append(self._variable())
                continue
            following = self._text[self._position + 1 : self._position + 2]
            if char == self._escape and following and following in f'"${self._escape}':
                parts.append(char + following if keep_escapes else following)
                self._position += 2
                continue
            # In a pattern an escape that escapes nothing stands for itself.
            parts.append(char + char if keep_escapes and char == self._escape else char)
            self._position += 1
        raise self._wrong("a double quote isn't closed")

    def _variable(self) -> str:
        self._position += 1
        if self._text.startswith("{", self._position):
            self._position += 1
            return self._braced()
        name = self._name()
        return self._env.get(name, "") if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self._text, self._position)
        if match is None:
            return ""
        self._position = match.end()
        return match[0]

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise self._wrong("there is no name behind ${")
        value = self._env.get(name)
        modifier = self._next()
        if modifier == "}":
            return value or ""
        if modifier == "/":
            return self._replaced(value or "")
        empty_is_unset = modifier == ":"
        if empty_is_unset:
            modifier = self._next()
        if modifier in {"-", "+", "?"}:
            word = self.until("}")[0]
            missing = value is None or (empty_is_unset and not value)
            return self._conditional(name, modifier, word, None if missing else value)
        if modifier in {"#", "%"}:
            return self._trimmed(modifier, value or "")
        if not modifier:
            raise self._wrong("'}' is missing")
        raise self._wrong(f"${{{name}{':' if empty_is_unset else ''}{modifier}...}} means nothing here")

    def _conditional(self, name: str, modifier: str, word: str, value: str | None) -> str:
        if modifier == "+":
            return "" if value is None else word
        if value is not None:
            return value
        if modifier == "-":
            return word
        raise self._wrong(f"{name}: {word or 'it must have a value'}")

    def _trimmed(self, modifier: str, value: str) -> str:
        pattern = self.until("}", keep_escapes=True)[0]
        longest = pattern.startswith(modifier)
        trim = trim_start if modifier == "#" else trim_end
        return self._matched(trim, pattern[longest:], value, longest=longest)

    def _replaced(self, value: str) -> str:
        everywhere = self._text.startswith("/", self._position)
        self._position += everywhere
        pattern = self.until("/", keep_escapes=True)[0]
        replacement = self.until("}", keep_escapes=True)[0]
        return self._matched(replace, pattern, value, replacement, everywhere=everywhere)

    def _matched(self, function: Callable[..., str], *arguments: str, **options: bool) -> str:
        try:
            return function(*arguments, **options)
        except BadEscapeError as error:
            raise self._wrong(f"{error} escapes nothing in a pattern") from error

    def _next(self) -> str:
        char = self._text[self._position : self._position + 1]
        self._position += 1
        return char

    def _wrong(self, message: str) -> DefinitionError:
        shown = self._text if len(self._text) <= SHOWN else f"{self._text[:SHOWN]}..."
        return DefinitionError("recipe.substitution", f"{message}, in {shown}", where=self._where)
