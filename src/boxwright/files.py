"""What several rooms do with files: give them what their entries say, hash them, copy them, lock them."""

from __future__ import annotations

import fcntl
import hashlib
import os

from boxwright.model.tree import SYMLINK, Entry, decode_xattrs

CHUNK = 1 << 20
HIGHEST_FD = 1 << 16


def give_attributes(path: str, entry: Entry) -> None:
    """Give a path the owner, mode, attributes and time of its entry. A changed owner clears setuid, so it is first."""
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind != SYMLINK:
        os.chmod(path, entry.mode)
    for name, value in decode_xattrs(entry.xattrs):
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def hash_file(path: str) -> str:
    """The hex SHA-256 of a file's bytes; a symbolic link is not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, CHUNK)
        if len(data) < CHUNK:
            return hashlib.sha256(data).hexdigest()
        digest = hashlib.sha256(data)
        while data := os.read(descriptor, CHUNK):
            digest.update(data)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def close_others(*kept: int) -> None:
    """Close every descriptor from 3 up but `kept`: a forked child that stays would keep others' pipes open."""
    lowest = 3
    for fd in sorted(fd for fd in kept if fd >= lowest):
        os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, HIGHEST_FD)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file (flock(2)) where nobody holds it otherwise; the lock goes with the descriptor."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(path: str, descriptor: int) -> bool:
    """Whether an open file still has its name: the last holder of a lock may have removed it."""
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
