"""What large files held when they were last read: a file whose status is the same is not read again."""

from __future__ import annotations

import os
import time

from boxwright.files import hash_file
from boxwright.store.index import Index

RACY_SECONDS = 2
"""A file that changed so shortly before it was read may change again within one tick of its clock."""


def file_digest(index: Index, path: str) -> str:
    """The SHA-256 of a file in hexadecimal digits. Raises OSError."""
    key = f"file {os.path.realpath(path)}"
    mark = _mark(os.stat(path))
    row = index.one("SELECT value FROM artifacts WHERE key=?", (key,))
    if row is not None and row[0].startswith(f"{mark} "):
        return str(row[0].rpartition(" ")[2])
    started = time.time()
    digest = hash_file(path)
    after = os.stat(path)
    if _mark(after) == mark and after.st_ctime < started - RACY_SECONDS:
        with index.writing() as db:
            db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", (key, f"{mark} {digest}", int(time.time())))
    return digest


def _mark(status: os.stat_result) -> str:
    """Size, both times, and which file it is."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_dev} {status.st_ino}"
