"""Content digests, written as OCI image-spec descriptors write them: ``sha256:HEX``."""

from __future__ import annotations

import hashlib
from typing import NewType

Digest = NewType("Digest", str)
"""``sha256:`` and 64 hexadecimal digits (OCI image-spec, descriptor.md, "Digests")."""


def digest_of(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_from_hex(value: str) -> Digest:
    """The digest whose hexadecimal part is `value`."""
    return Digest("sha256:" + value)


def hex_of(digest: Digest) -> str:
    """The hexadecimal part of `digest`."""
    return digest[7:]


def short(digest: Digest) -> str:
    """The first twelve hexadecimal digits, for people."""
    return digest[7:19]
