"""Layers of registries' images as they were unpacked, so that the next pull of one neither fetches nor unpacks it.

``cache/layers/HEX/`` holds the list of a layer's members, and its files under numbers: names of the very files of the
image's tree, so they take no room while that is here. A pull does again what the list says, and links the files. Every
file is compared with its digest before. Like the blobs they can be made again: `boxwright gc` removes those that no
pull used for two weeks, or all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from boxwright.app.blobcache import prune_unused
from boxwright.files import hash_file
from boxwright.model.digest import Digest, hex_of
from boxwright.sources.tarmembers import FILE, Member
from boxwright.sources.unpack import Keep, Replayed
from boxwright.store.measure import KEPT_LAYERS
from boxwright.store.store import Store

MEMBERS = "members"
PART = "part-"


class _Kept(NamedTuple):
    """A member; of a file the number under which it is kept, else -1, and its SHA-256."""

    member: Member
    number: int = -1
    sha256: str = ""


class KeptLayers:
    """The layers that one pull may use again (`Kept` of sources.oci)."""

    def __init__(self, store: Store) -> None:
        self._directory = f"{store.home.cache}/{KEPT_LAYERS}"
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._known: dict[Digest, Sequence[Replayed] | None] = {}

    def members(self, digest: Digest) -> Sequence[Replayed] | None:
        """What is in a layer; None where it is not here, or was damaged and is not here any more."""
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest]

    def _read(self, digest: Digest) -> Sequence[Replayed] | None:
        place = self._place(digest)
        try:
            with open(f"{place}/{MEMBERS}", "rb") as file:
                kept = msgspec.msgpack.decode(file.read(), type=list[_Kept])
            os.utime(place)
            if all(it.number < 0 or _is_whole(f"{place}/{it.number}", it) for it in kept):
                return [(it.member, f"{place}/{it.number}" if it.number >= 0 else "") for it in kept]
        except FileNotFoundError:
            if not os.path.isdir(place):
                return None
        except (OSError, msgspec.MsgspecError):
            pass
        shutil.rmtree(place, ignore_errors=True)
        return None

    @contextmanager
    def keeping(self, digest: Digest) -> Iterator[Keep]:
        """Keep a layer while it is unpacked."""
        part = tempfile.mkdtemp(prefix=PART, dir=self._directory)
        kept: list[_Kept] = []

        def keep(member: Member, here: int, name: bytes) -> None:
            number = len(kept) if member.kind == FILE and here >= 0 else -1
            if number >= 0:
                os.link(name, f"{part}/{number}", src_dir_fd=here, follow_symlinks=False)
            kept.append(_Kept(member._replace(records={}), number))

        try:
            yield keep
            hashed = [it._replace(sha256=hash_file(f"{part}/{it.number}")) if it.number >= 0 else it for it in kept]
            with open(f"{part}/{MEMBERS}", "wb") as file:
                file.write(msgspec.msgpack.encode(hashed))
            with suppress(OSError):  # somebody else was quicker
                os.rename(part, self._place(digest))
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _place(self, digest: Digest) -> str:
        return f"{self._directory}/{hex_of(digest)}"


def _is_whole(path: str, kept: _Kept) -> bool:
    """Whether a file is still the one that was unpacked."""
    found, member = os.lstat(path), kept.member
    same = (found.st_size, found.st_uid, found.st_gid, int(found.st_mtime)) == (
        member.size,
        member.uid,
        member.gid,
        member.mtime,
    )
    return same and found.st_mode & 0o7777 == member.mode and hash_file(path) == kept.sha256


def prune_layers(store: Store, *, everything: bool) -> None:
    """Remove what no pull used lately, and what a killed one left."""
    prune_unused(f"{store.home.cache}/{KEPT_LAYERS}", everything=everything)
