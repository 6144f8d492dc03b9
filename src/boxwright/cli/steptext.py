"""What steps write, made fit for lines of a display: no escape sequence of theirs reaches the terminal."""

from __future__ import annotations

import re
from collections import deque

LONGEST_LINE = 16 << 10
KEPT_LINES = 20
KEPT_LENGTH = 2000

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, links
    r"|\x1b[ -/]*[0-~]?"  # the two-character ones, and what is cut off
)
_INVISIBLE = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
del _INVISIBLE[0x09]


def clean(text: str) -> str:
    """One line as it would stand on a terminal: what follows the last carriage return, without control characters."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text).rstrip("\r")
    return text.rpartition("\r")[2].translate(_INVISIBLE).expandtabs()


class StepText:
    """The output of one step as lines. Keeps the last of them."""

    __slots__ = ("_kept", "_open")

    def __init__(self) -> None:
        self._open = b""
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        whole, newline, rest = (self._open + data).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._open = rest
        return self._lines(whole) if newline else []

    def end(self) -> list[str]:
        """The last line, where no line feed ended it."""
        rest, self._open = self._open, b""
        return self._lines(rest) if rest else []

    def tail(self, count: int = KEPT_LINES) -> list[str]:
        """The last lines, the open one among them."""
        lines = list(self._kept)
        if self._open:
            lines.append(clean(self._open.decode("utf-8", "replace"))[:KEPT_LENGTH])
        return lines[-count:]

    def _lines(self, data: bytes) -> list[str]:
        lines = [clean(line) for line in data.decode("utf-8", "replace").split("\n")]
        self._kept.extend(line[:KEPT_LENGTH] for line in lines[-KEPT_LINES:])
        return lines
