"""The lines of a definition around a place in it."""

from __future__ import annotations

from pathlib import Path

from boxwright.cli.steptext import clean
from boxwright.model.giturl import redacted
from boxwright.model.span import Span

AROUND = 2
LONGEST = 16


def source_lines(where: Span, definition: str = "") -> list[str]:
    """The lines around `where`, those of the step marked; nothing where the text can't be read again."""
    if where.file == "-" or definition == "-":
        return []
    # That of a fetched context is named as it is there.
    place = definition if definition.endswith(f"/{where.file}") else where.file
    try:
        text = Path(place).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    last = max(where.line, where.end_line)
    if where.line > len(text):
        return []
    shown: list[str] = []
    width = len(str(min(last + AROUND, len(text))))
    for number in range(max(1, where.line - AROUND), min(last + AROUND, len(text)) + 1):
        inside = where.line <= number <= last
        if inside and last - where.line >= LONGEST and where.line + LONGEST // 2 <= number <= last - LONGEST // 2:
            if number == where.line + LONGEST // 2:
                shown.append(f"> {'':>{width}} | ...")
            continue
        shown.append(f"{'>' if inside else ' '} {number:>{width}} | {clean(redacted(text[number - 1]))}".rstrip())
    return shown
