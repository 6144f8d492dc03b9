"""White space as Go's unicode.IsSpace has it, which Dockerfiles are read with; Python's own also takes x1c to x1f."""

from __future__ import annotations

import re

BLANK = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
BLANKS = frozenset(BLANK)

_ODD = re.compile("[\x1c-\x1f]")


def split(text: str) -> list[str]:
    """The words of `text` between white space."""
    return text.split() if _ODD.search(text) is None else re.findall(f"[^{BLANK}]+", text)
