"""Who uses the store now: what works with snapshots shares a lock, what removes them wants it alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.files import try_lock
from boxwright.store.home import Home, unusable


@contextmanager
def using(home: Home) -> Iterator[None]:
    """Say that this process reads snapshots. Waits while another one decides what to remove."""
    descriptor = _open(home, "use")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(home: Home) -> Iterator[bool]:
    """Keep others from starting, where none is there; yields whether so. Not for a process that is `using`."""
    descriptor = _open(home, "use")
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def upkeep(home: Home) -> Iterator[None]:
    """One upkeep (collection, verification) at a time."""
    descriptor = _open(home, "upkeep")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(home: Home, name: str) -> int:
    try:
        return os.open(f"{home.root}/{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(home.root, error) from error
