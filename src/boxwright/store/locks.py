"""Locks between processes, by flock(2): the kernel drops them when a process ends in whatever way."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from boxwright.files import is_current, try_lock

POLL_SECONDS = 0.01


@contextmanager
def locked(directory: str, name: str, cancelled: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock `name`; yields whether another process had held it. Raises KeyboardInterrupt when cancelled."""
    path = f"{directory}/{name}"
    descriptor, waited = _take(path, cancelled)
    try:
        yield waited
    finally:
        os.unlink(path)
        os.close(descriptor)


def _take(path: str, cancelled: Callable[[], bool]) -> tuple[int, bool]:
    waited = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_lock(descriptor):
            os.close(descriptor)
            waited = True
            if cancelled():
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)
            continue
        if is_current(path, descriptor):
            return descriptor, waited
        os.close(descriptor)


def hold(path: str) -> int:
    """Lock the file at `path` for as long as the returned descriptor is open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_current(path, descriptor):
            return descriptor
        os.close(descriptor)


def is_held(path: str) -> bool:
    """Whether some process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def abandoned(path: str) -> Iterator[bool]:
    """Whether no process holds the lock at `path`; if so nobody gets it, and the file is removed, at the end."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        is_free = try_lock(descriptor) and is_current(path, descriptor)
        yield is_free
        if is_free:
            os.unlink(path)
    finally:
        os.close(descriptor)
