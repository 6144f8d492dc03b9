"""How an instruction is shown in one line."""

from __future__ import annotations

WIDTH = 100


def title(text: str) -> str:
    """`text` with its white space taken together, cut where it is long."""
    line = " ".join(text[: 8 * WIDTH].split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3].rstrip()}..."
