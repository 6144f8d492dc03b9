"""Snapshots that LXD makes, and how soon what they are made of may change again.

An operation of LXD ends long after the tree was taken: its database and its own copy of the configuration follow. On a
pool of btrfs on this machine the new subvolume can be seen, and a command may go on beside the rest.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError

LOOK_SECONDS = 0.001
SUBVOLUME_INODE = 256
"""The inode number of each subvolume's root (BTRFS_FIRST_FREE_OBJECTID in linux/btrfs_tree.h)."""
_GET_SUBVOL_ROOTREF = 0xD000943D
"""BTRFS_IOC_GET_SUBVOL_ROOTREF of linux/btrfs.h: the subvolumes below one. No privileges are needed."""
_ROOTREF_BYTES, _ITEMS_AT = 4096, 4088


def has_subvolumes(directory: str) -> bool:
    """Whether the subvolume in which `directory` lies has others below it. Raises OSError (it is not on btrfs)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        answer = bytearray(_ROOTREF_BYTES)
        fcntl.ioctl(descriptor, _GET_SUBVOL_ROOTREF, answer)
    finally:
        os.close(descriptor)
    return answer[_ITEMS_AT] > 0


class SnapshotPlaces:
    """Where LXD puts the subvolumes of a pool of btrfs on this machine: `top` is the pool's directory."""

    def __init__(self, top: str) -> None:
        self._top = top

    def place(self, instance: str, state: str) -> str:
        """The directory whose appearance says that the tree was taken; empty where it doesn't say that.

        Subvolumes inside of the instance's own are taken after it.
        """
        with suppress(OSError):
            if not has_subvolumes(f"{self._top}/containers/{instance}"):
                return f"{self._top}/containers-snapshots/{instance}/{state}"
        return ""


class Snapshotting:
    """A snapshot that LXD makes. Who needs it waits for its end (`settle`), who changes the tree till it is `taken`.

    `place` is the directory that appears when it is taken, empty where that can't be seen.
    """

    def __init__(self, client: LxdClient, operation: str, what: str, place: str = "") -> None:
        self._client = client
        self._operation = operation
        self._what = what
        self._place = place
        self._lock = threading.Lock()
        self._ended = False
        self._error: LxdError | None = None

    def settle(self) -> None:
        """Until it is made. Raises LxdError, each time, where it could not be."""
        self._wait()
        if self._error is not None:
            raise self._error

    def taken(self) -> None:
        """Until the tree may change. Raises LxdError where the snapshot could not be made."""
        if self._place and not self._ended:
            waiting = threading.Thread(target=self._wait, daemon=True)
            waiting.start()
            while waiting.is_alive():
                with suppress(OSError):
                    if os.stat(self._place).st_ino == SUBVOLUME_INODE:
                        return
                time.sleep(LOOK_SECONDS)
        self.settle()

    def _wait(self) -> None:
        with self._lock:
            if not self._ended:
                try:
                    self._client.wait(self._operation, self._what)
                except LxdError as error:
                    self._error = error
                self._ended = True
