"""Keeps secrets out of what a step writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

SHORTEST = 4
"""Shorter ones are no secrets that could be kept, and replacing them would spoil the output."""

SHOWN = b"***"


class Redactor:
    """Hands output on with every secret, and every line of one, replaced; also where it comes in pieces."""

    def __init__(self, secrets: Iterable[bytes], output: Callable[[bytes], None]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        self._hidden = sorted((line for line in lines if len(line) >= SHORTEST), key=lambda line: (-len(line), line))
        self._pattern = re.compile(b"|".join(map(re.escape, self._hidden)))
        self._output = output
        self._kept = b""

    def write(self, data: bytes) -> None:
        """Hand on what can't be the beginning of a secret."""
        if not self._hidden:
            self._output(data)
            return
        text = self._kept + data
        parts: list[bytes] = []
        position = 0
        for match in self._pattern.finditer(text):
            parts += (text[position : match.start()], SHOWN)
            position = match.end()
        rest = text[position:]
        self._kept = rest[len(rest) - self._begun(rest) :]
        parts.append(rest[: len(rest) - len(self._kept)])
        if ready := b"".join(parts):
            self._output(ready)

    def flush(self) -> None:
        """Hand on what is left: the beginning of a secret may be something else."""
        if self._kept:
            self._output(self._kept)
            self._kept = b""

    def _begun(self, text: bytes) -> int:
        """How many bytes at the end may be a secret's beginning."""
        longest = min(len(text), max(map(len, self._hidden)) - 1)
        return next(
            (size for size in range(longest, 0, -1) if any(it.startswith(text[-size:]) for it in self._hidden)), 0
        )
