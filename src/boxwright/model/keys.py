"""From a step's fields to its key (docs/keys.md)."""

from __future__ import annotations

from boxwright.model.canonical import KEY_VERSION, Value, encode
from boxwright.model.digest import Digest, digest_of


def key_of(kind: str, fields: tuple[tuple[str, Value], ...]) -> Digest:
    """The key of a step of this kind with these fields."""
    return digest_of(encode((KEY_VERSION, kind, fields)))
