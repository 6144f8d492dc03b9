"""A deterministic tar of a tree, as a stream (OCI image-spec, layer.md, "Representing Changes").

Members stand in the order of the walk, names without a leading "./", directories with a slash at their end, times from
the manifest. The root comes first as "./" (or as the prefix): only so its mode, owner and time come through.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from boxwright.errors import StoreError
from boxwright.images.members import Member, members
from boxwright.images.pipeline import Pipeline
from boxwright.images.tarheader import BLOCK_SIZE, END, member_header
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE
from boxwright.ports import TreeReader

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def write_tree(
    out: Pipeline, reader: TreeReader, snapshot: Snapshot, prefix: str = "", *, for_squashfs: bool = False
) -> None:
    """Append the members of a tree to `out`, each below `prefix` ("" or ending in a slash).

    `for_squashfs`: as mksquashfs wants it, which refuses the root and takes the slash off a target in a pax record.
    """
    write_members(out, members(reader, snapshot), prefix, for_squashfs=for_squashfs)


def write_members(out: Pipeline, found: Iterable[Member], prefix: str = "", *, for_squashfs: bool = False) -> None:
    """The same for members that stand in order, as in `members` and `difference`."""
    start = prefix.encode("utf-8", "surrogateescape")
    for path, entry, physical, link in found:
        if for_squashfs and not path:
            continue
        name = start + path.encode("utf-8", "surrogateescape")
        if link is not None:
            out.write(member_header(name, entry, start + link.encode("utf-8", "surrogateescape")))
            continue
        kind = entry.kind
        if kind == DIRECTORY:
            name = name + b"/" if path else start or b"./"
        out.write(member_header(name, entry, None, gnu_targets=for_squashfs))
        if kind == FILE and entry.size:
            _append_file(out, path, entry.size, physical)


def write_end(out: Pipeline) -> None:
    """Append the two blocks that end an archive."""
    out.write(END)


def tree_size(reader: TreeReader, snapshot: Snapshot) -> int:
    """How long the archive of a tree will be, its end included; known from the manifest alone."""
    return members_size(members(reader, snapshot))


def members_size(found: Iterable[Member]) -> int:
    """How long an archive of these members will be, its end included."""
    total = len(END)
    for path, entry, _, link in found:
        name = path.encode("utf-8", "surrogateescape")
        if entry.kind == DIRECTORY:
            name = name + b"/" if path else b"./"
        target = None if link is None else link.encode("utf-8", "surrogateescape")
        total += len(member_header(name, entry, target))
        if link is None and entry.kind == FILE:
            total += -(-entry.size // BLOCK_SIZE) * BLOCK_SIZE
    return total


def open_content(path: str, size: int, physical: str | None) -> int:
    """Open a file's bytes; they must be a regular file of `size`, and never reached through a symbolic link."""
    if physical is None:
        raise changed(path, "its content has no place")
    try:
        descriptor = os.open(physical, _OPEN_FLAGS)
    except OSError as error:
        raise changed(path, error.strerror or str(error)) from error
    state = os.fstat(descriptor)
    if state.st_size != size or not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise changed(path, f"{state.st_size} bytes instead of {size}")
    return descriptor


def _append_file(out: Pipeline, path: str, size: int, physical: str | None) -> None:
    descriptor = open_content(path, size, physical)
    try:
        if out.read_from(descriptor, size) != size:
            raise changed(path, "it became shorter while it was read")
    finally:
        os.close(descriptor)
    out.zeros(-size % BLOCK_SIZE)


def changed(path: str, how: str) -> StoreError:
    """The error for a file that is not what the manifest says."""
    return StoreError(
        "store.tree-changed",
        f"/{path} in the store is not what its manifest says: {how}",
        hint="run 'boxwright fsck', then build again",
    )
