"""Where a piece of the user's text stands."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Lines and columns count from 1; `end_line` is the last line, itself included."""

    file: str
    line: int
    column: int = 1
    end_line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
