"""Names of images."""

from __future__ import annotations

import re

from boxwright.errors import UsageError

NAME = re.compile(r"(?:[\w.-]+(?::\d+)?/)*[a-z0-9]+(?:(?:[._]|__|-+|/)[a-z0-9]+)*(?::[\w][\w.-]{0,127})?")


def image_name(text: str) -> str:
    """`text` with its tag, ``latest`` where none is given. Raises UsageError `usage.name`."""
    if not NAME.fullmatch(text):
        raise UsageError(
            "usage.name", f"{text!r} is no name for an image", hint="lower-case letters, digits and . _ - /, then :TAG"
        )
    return text if ":" in text.rpartition("/")[2] else f"{text}:latest"
