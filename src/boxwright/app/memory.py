"""What the C library does with memory that threads let go of."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Of malloc.h (mallopt(3)); other C libraries than glibc keep nothing worth a word."""
_LARGE = 256 << 10
_ARENAS = 2


def return_large_blocks() -> None:
    """Give blocks from 256 KiB on back to the system as soon as they are free, whichever thread had them.

    glibc keeps a heap for each thread, and after the first free of a large block also such blocks: eight threads that
    compress pieces of a megabyte kept 60 MB between them. It costs no time that could be measured.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
