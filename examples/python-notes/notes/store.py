"""Notes in memory."""

from __future__ import annotations


class Notes:
    """Notes by number, the newest last."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, text: str) -> int:
        """Keep a note; returns its number. Raises ValueError for an empty one."""
        if not text.strip():
            raise ValueError("a note needs a text")
        self._texts.append(text.strip())
        return len(self._texts)

    def all(self) -> list[str]:
        """Every note."""
        return list(self._texts)
