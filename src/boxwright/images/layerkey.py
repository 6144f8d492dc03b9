"""What a packed layer is made of, as a digest: who has packed the same before need not do it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from boxwright.images.layer import Packing
from boxwright.images.members import Member
from boxwright.model.digest import Digest, digest_from_hex
from boxwright.model.tree import DIRECTORY

_VERSION = "boxwright-layer-1"


def layer_key(found: Iterable[Member], packing: Packing) -> Digest:
    """The digest of everything that decides a layer's bytes, but the compressor's own version.

    Fields end with a NUL, which none can hold. A directory's content is its members', and no field of its own.
    """
    parts = [_VERSION, packing.compression, str(packing.level)]
    for path, entry, _, link in found:
        content = ("", "") if entry.kind == DIRECTORY else (str(entry.size), entry.data)
        if link is not None:
            content = ("", link)
        owner = f"{entry.mode:o} {entry.uid} {entry.gid} {entry.mtime}"
        kind = "h" if link is not None else entry.kind
        parts += (kind, path, owner, *content, entry.xattrs)
    text = "\0".join(parts) + "\0"
    return digest_from_hex(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())
