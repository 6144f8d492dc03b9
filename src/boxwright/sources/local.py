"""Build contexts: a local directory becomes a tree, quickly where little changed.

Of each directory is remembered what its files' status was and what their content was. A file whose status (size, both
times, inode, mode) is the same has the same content; one that changed within the clock's grain of the reading isn't
remembered. Owners are root's and times the build's (decision "Times of a context" in docs/architecture.md).
"""

from __future__ import annotations

import marshal
import os
import stat
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from boxwright.errors import BoxwrightError, MachineError
from boxwright.files import hash_file
from boxwright.model.tree import DIRECTORY, FIFO, FILE, SYMLINK, DirectoryObject, Entry, encode_directory
from boxwright.ports import ContextTree

GRAIN_NANOSECONDS = 20_000_000
MEMORY_VERSION = 2

Put: TypeAlias = Callable[[DirectoryObject], DirectoryObject]
Has: TypeAlias = Callable[[str], bool]
Remembered: TypeAlias = tuple[list[tuple[object, ...]], list[str], str, int, int]


class Rules(Protocol):
    """What a scan asks of .dockerignore."""

    def ignored(self, path: str) -> bool:
        """Whether `path` is left out."""
        ...

    def may_hold_kept(self, directory: str) -> bool:
        """Whether something below an ignored directory may be kept."""
        ...


class LocalContext:
    """Reads one directory."""

    def __init__(self, directory: str, memory: str, rules: Rules | None, *, put: Put, has: Has, epoch: int) -> None:
        self._directory = directory
        self._memory_file = memory
        self._rules = rules
        self._put = put
        self._has = has
        self._epoch = epoch
        self._before: dict[str, Remembered] = {}
        self._now: dict[str, Remembered] = {}
        self._sizes: dict[str, int] = {}
        self._started = 0
        self._fresh = False

    def read(self) -> ContextTree:
        """Read the tree. Raises BoxwrightError `context.unreadable` naming the path."""
        self._started = time.time_ns()
        self._load()
        self._now = {}
        self._fresh = False
        link = self._scan("")
        if link is None:
            link = self._put(encode_directory(())).link
        if self._fresh or len(self._now) != len(self._before):
            self._save()
        return ContextTree(self._directory, link, self._started - GRAIN_NANOSECONDS)

    def _load(self) -> None:
        try:
            with open(self._memory_file, "rb") as file:
                version, directory, remembered = marshal.load(file)  # noqa: S302 - a file of the store, as trusted as the index
        except (OSError, ValueError, EOFError, TypeError):
            return
        if version == MEMORY_VERSION and directory == self._directory:
            self._before = remembered

    def _save(self) -> None:
        temporary = f"{self._memory_file}.{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                marshal.dump((MEMORY_VERSION, self._directory, self._now), file)
            os.replace(temporary, self._memory_file)
        except OSError as error:
            raise MachineError("store.unusable", f"{self._memory_file} can't be written: {error.strerror}") from error

    def _scan(self, prefix: str) -> str | None:
        """Read a directory; returns its link, None where nothing in it is kept."""
        place = f"{self._directory}/{prefix}"
        signature: list[tuple[object, ...]] = []
        kept: list[tuple[os.DirEntry[str], os.stat_result, str | None]] = []
        rules = self._rules
        for item in self._listing(place):
            path = prefix + item.name
            ignored = rules is not None and rules.ignored(path)
            if ignored and not (rules is not None and item.is_dir(follow_symlinks=False) and rules.may_hold_kept(path)):
                continue
            status = item.stat(follow_symlinks=False)
            link = None
            if stat.S_ISDIR(status.st_mode):
                link = self._scan(f"{path}/")
                if link is None and ignored:
                    continue
                link = link or self._put(encode_directory(())).link
                signature.append((item.name, status.st_mode, link))
            elif stat.S_ISSOCK(status.st_mode):
                continue
            else:
                signature.append(
                    (
                        item.name,
                        status.st_mode,
                        status.st_size,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        status.st_ino,
                    )
                )
            kept.append((item, status, link))
        if not kept:
            return None
        return self._remembered(prefix, signature) or self._encode(prefix, signature, kept)

    def _listing(self, place: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(place) as listing:
                return list(listing)
        except OSError as error:
            raise BoxwrightError(
                "context.unreadable",
                f"{place.rstrip('/')} can't be read: {error.strerror}",
                hint="give yourself the right to read it, or leave it out in .dockerignore",
            ) from error

    def _remembered(self, prefix: str, signature: list[tuple[object, ...]]) -> str | None:
        before = self._before.get(prefix)
        if before is None or before[0] != signature or before[3] != self._epoch or not self._has(before[2][:64]):
            return None
        self._now[prefix] = before
        self._sizes[before[2]] = before[4]
        return before[2]

    def _encode(
        self,
        prefix: str,
        signature: list[tuple[object, ...]],
        kept: list[tuple[os.DirEntry[str], os.stat_result, str | None]],
    ) -> str:
        self._fresh = True
        before = self._before.get(prefix)
        known = dict(zip(before[0], before[1], strict=True)) if before else {}
        data = [
            link or known.get(mark) or self._content(item, status)
            for (item, status, link), mark in zip(kept, signature, strict=True)
        ]
        entries = [
            _entry(item, status, text, self._epoch, self._sizes.get(text, 0))
            for (item, status, _), text in zip(kept, data, strict=True)
        ]
        directory = self._put(encode_directory(entries))
        self._sizes[directory.link] = directory.size
        racy = [status.st_ctime_ns > self._started - GRAIN_NANOSECONDS for _, status, link in kept if link is None]
        if not any(racy):
            self._now[prefix] = (signature, data, directory.link, self._epoch, directory.size)
        return directory.link

    def _content(self, item: os.DirEntry[str], status: os.stat_result) -> str:
        try:
            if stat.S_ISREG(status.st_mode):
                return hash_file(item.path)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(item.path)
        except OSError as error:
            raise BoxwrightError("context.unreadable", f"{item.path} can't be read: {error.strerror}") from error
        if stat.S_ISFIFO(status.st_mode):
            return ""
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _entry(item: os.DirEntry[str], status: os.stat_result, data: str, epoch: int, below: int) -> Entry:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return Entry(FILE, item.name, mode, 0, 0, epoch, status.st_size, data)
    if stat.S_ISDIR(status.st_mode):
        return Entry(DIRECTORY, item.name, mode, 0, 0, epoch, below, data)
    if stat.S_ISLNK(status.st_mode):
        return Entry(SYMLINK, item.name, 0o777, 0, 0, epoch, 0, data)
    kind = FIFO if stat.S_ISFIFO(status.st_mode) else ("b" if stat.S_ISBLK(status.st_mode) else "c")
    return Entry(kind, item.name, mode, 0, 0, epoch, 0, data)
