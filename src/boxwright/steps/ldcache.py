"""ld.so.cache: by soname where a library is (glibc, sysdeps/generic/dl-cache.h, struct cache_file_new).

Written here and not by ldconfig(8), which wants the whole tree in one place and the right to chroot.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from functools import cmp_to_key

from boxwright.steps.elf import Elf

MAGIC = b"glibc-ld.so.cache1.1"
HEAD = struct.Struct("<20sIIB3xI12x")
ENTRY = struct.Struct("<iIIIQ")
LITTLE_ENDIAN = 2
FLAGS = {62: 0x0303, 183: 0x0A03, 3: 0x0003, 40: 0x0903, 21: 0x0503, 243: 0x1003}
"""By e_machine what ldconfig notes: a library of glibc (3) and its ABI. Big-endian machines are left out."""


def write_cache(libraries: Mapping[str, Iterable[tuple[str, Elf]]]) -> bytes | None:
    """The cache for libraries by soname (paths without a leading slash); None where there is none to be listed."""
    listed = [
        (soname, "/" + path, FLAGS[elf.machine])
        for soname, places in libraries.items()
        for path, elf in places
        if elf.machine in FLAGS
    ]
    if not listed:
        return None
    listed.sort(key=cmp_to_key(_order))
    start = HEAD.size + ENTRY.size * len(listed)
    strings = bytearray()
    entries: list[bytes] = []
    for soname, path, flags in listed:
        key = start + len(strings)
        strings += soname.encode("utf-8", "surrogateescape") + b"\0"
        value = start + len(strings)
        strings += path.encode("utf-8", "surrogateescape") + b"\0"
        entries.append(ENTRY.pack(flags, key, value, 0, 0))
    head = HEAD.pack(MAGIC, len(listed), len(strings), LITTLE_ENDIAN, 0)
    return head + b"".join(entries) + bytes(strings)


def _order(one: tuple[str, str, int], other: tuple[str, str, int]) -> int:
    return _compare(other[0], one[0]) or other[2] - one[2]


def _compare(one: str, other: str) -> int:
    """The order in which ld.so searches: numbers as numbers, and after other characters (_dl_cache_libcmp)."""
    left, right = (re.findall(r"\d+|\D", text) for text in (one, other))
    for mine, theirs in zip(left, right, strict=False):
        if mine.isdigit() and theirs.isdigit():
            if int(mine) != int(theirs):
                return int(mine) - int(theirs)
        elif mine.isdigit() != theirs.isdigit():
            return 1 if mine.isdigit() else -1
        elif mine != theirs:
            return ord(mine) - ord(theirs)
    return len(left) - len(right)
