"""Writes the files of a COPY into a new layer."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Sequence

from boxwright.errors import BoxwrightError
from boxwright.files import CHUNK, give_attributes, write_all
from boxwright.model.image import Snapshot
from boxwright.model.tree import BLOCK, FIFO, FILE, HARDLINK, SYMLINK, Entry
from boxwright.ports import ContextTree, Workspace
from boxwright.steps.graft import Write

THREADS = 2
FEW = 64


def write_files(workspace: Workspace, upper: str, writes: Sequence[Write], cancelled: Callable[[], bool]) -> None:
    """Write every path below `upper`, whose directories are there. Raises BoxwrightError `context.changed`."""
    files = [item for item in writes if item.entry.kind != HARDLINK]
    _write_all(workspace, upper, files, cancelled)
    for item in writes:
        if item.entry.kind == HARDLINK:
            os.link(f"{upper}/{item.entry.data}", f"{upper}/{item.target}", follow_symlinks=False)


def _write_all(workspace: Workspace, upper: str, writes: Sequence[Write], cancelled: Callable[[], bool]) -> None:
    if len(writes) <= FEW:
        _some(workspace, upper, writes, cancelled)
        return
    failures: list[BaseException] = []

    def work(part: Sequence[Write]) -> None:
        try:
            _some(workspace, upper, part, lambda: cancelled() or bool(failures))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failures.append(error)

    size = -(-len(writes) // THREADS)
    threads = [
        threading.Thread(target=work, args=(writes[start : start + size],)) for start in range(0, len(writes), size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _some(workspace: Workspace, upper: str, writes: Sequence[Write], cancelled: Callable[[], bool]) -> None:
    for number, item in enumerate(writes):
        if number % 64 == 0 and cancelled():
            raise KeyboardInterrupt
        _write(workspace, f"{upper}/{item.target}", item)


def _write(workspace: Workspace, target: str, item: Write) -> None:
    kind = item.entry.kind
    if kind == FILE:
        if item.origin.context is not None:
            _from_context(item.origin.context, item.source, target, item.entry)
        elif item.origin.snapshot is not None:
            _from_snapshot(workspace, item.origin.snapshot, item, target)
        else:
            _create(target, item.entry, lambda descriptor: write_all(descriptor, item.origin.text))
        return
    if kind == SYMLINK:
        os.symlink(item.entry.data, target)
    else:
        major, _, minor = (item.entry.data or "0:0").partition(":")
        types = {FIFO: stat.S_IFIFO, BLOCK: stat.S_IFBLK}
        os.mknod(target, types.get(kind, stat.S_IFCHR) | 0o600, os.makedev(int(major), int(minor)))
    give_attributes(target, item.entry)


def _create(target: str, entry: Entry, fill: Callable[[int], None]) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fill(descriptor)
        if entry.xattrs:
            give_attributes(target, entry)
            return
        # Through the open file: no path is looked up again.
        if entry.uid or entry.gid:
            os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, (entry.mtime, entry.mtime))
    finally:
        os.close(descriptor)


def _from_context(context: ContextTree, path: str, target: str, entry: Entry) -> None:
    source = os.open(f"{context.directory}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # What did not change since it was read needs no second hash.
        digest = hashlib.sha256() if os.fstat(source).st_ctime_ns >= context.started else None
        _create(target, entry, lambda descriptor: _pump(source, descriptor, entry.size, digest))
        if digest is not None and digest.hexdigest() != entry.data:
            raise _changed(path)
    except EOFError:
        raise _changed(path) from None
    finally:
        os.close(source)


def _pump(source: int, target: int, size: int, digest: hashlib._Hash | None) -> None:
    """Copy exactly `size` bytes; raises EOFError where there are fewer."""
    left = size
    while left:
        data = os.read(source, min(CHUNK, left))
        if not data:
            raise EOFError
        if digest is not None:
            digest.update(data)
        write_all(target, data)
        left -= len(data)


def _changed(path: str) -> BoxwrightError:
    return BoxwrightError(
        "context.changed", f"{path} changed while it was being copied", hint="build again when nothing writes to it"
    )


def _from_snapshot(workspace: Workspace, snapshot: Snapshot, item: Write, target: str) -> None:
    source = workspace.physical(snapshot, item.source)
    if source is None:
        raise BoxwrightError(
            "store.tree-damaged", f"{item.source} has no bytes in the store", hint="run 'boxwright fsck'"
        )
    if item.entry._replace(name="") == item.before._replace(name=""):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM):
                raise
        else:
            return
    opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _create(target, item.entry, lambda descriptor: _pump(opened, descriptor, item.entry.size, None))
    finally:
        os.close(opened)
