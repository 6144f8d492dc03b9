"""The canonical encoding that every key is a digest of.

Framed: each value carries its type and its length, so no two different values encode alike
(``["ab", "c"]`` and ``["a", "bc"]`` differ). Versioned: `KEY_VERSION` is the first value of each key.
The encoding is documented in docs/keys.md and held still by golden files.
"""

from __future__ import annotations

from typing import TypeAlias

KEY_VERSION = 1

Value: TypeAlias = "bool | int | str | bytes | tuple[Value, ...] | None"


def encode(value: Value) -> bytes:
    """The canonical bytes of `value`. Raises TypeError for a type that has no encoding."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return b"s%d:%b" % (len(data), data)
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    if isinstance(value, tuple):
        parts: list[bytes] = []
        for item in value:
            if type(item) is str:
                # Most items are text: a call for each would be a third of the time that keys take.
                data = item.encode("utf-8", "surrogateescape")
                parts.append(b"s%d:%b" % (len(data), data))
            else:
                parts.append(encode(item))
        return b"l%d:%b" % (len(value), b"".join(parts))
    raise TypeError(f"no canonical encoding for {type(value).__name__}")
