"""Snapshots and backups of volumes that are directories of this machine; copies need other machines.

A snapshot is a copy of the files, by reflinks where the file system has them. What is put in a volume's place is made
beside it, and both change places at once (renameat2(2), RENAME_EXCHANGE): whatever is killed, one of the two is there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from tempfile import TemporaryFile
from typing import BinaryIO

from boxwright.errors import BoxwrightError
from boxwright.model.deployment import VolumeSpec
from boxwright.model.volumes import GuardNote, VolumeSnapshot, snapshot_time

_NEW, _OLD = ".new-", ".old-"
_HERE = -100
_EXCHANGE = 2
_COPY = ("cp", "--archive", "--reflink=auto", "--sparse=always", "--no-target-directory")
_ELSEWHERE = (": No such file or directory", "as it was replaced while being copied")
"""How cp's messages end about a file that went, or was replaced, after its directory was read."""
COPYING_SECONDS = 60.0
"""How long who removes a volume waits for who copies it."""
_TAR = ("tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--sparse")


class DirectoryVolumes(ABC):
    """The volumes of an engine with one host."""

    @abstractmethod
    def volume_directory(self, stack: str, volume: str) -> str:
        """Where a volume's files are. Raises BoxwrightError `volume.unknown`."""

    @abstractmethod
    def snapshots_directory(self, stack: str, volume: str) -> str:
        """Where its snapshots are to be, on the same file system."""

    @abstractmethod
    def copying(self, stack: str, patience: float = 0.0) -> AbstractContextManager[None]:
        """Held while its volumes are copied: what is copied may be changed, but nothing may take its place."""

    def grow_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Directories have no size: this is never asked."""
        raise NotImplementedError(f"{stack}.{spec.name}")

    # Snapshots --------------------------------------------------------------------------------------------------------

    def snapshots(self, stack: str, volume: str) -> Sequence[VolumeSnapshot]:
        """Those of a volume, the oldest first."""
        with suppress(FileNotFoundError):
            names = [it for it in os.listdir(self.snapshots_directory(stack, volume)) if not it.startswith(".")]
            return sorted((VolumeSnapshot(it, snapshot_time(it)) for it in names), key=lambda it: (it.time, it.name))
        return ()

    def take_snapshot(self, stack: str, volume: str, name: str) -> None:
        """A copy of all files, one after the other, while they are used. Raises BoxwrightError `volume.exists`."""
        source = self.volume_directory(stack, volume)
        place = self.snapshots_directory(stack, volume)
        os.makedirs(place, mode=0o700, exist_ok=True)
        if os.path.lexists(f"{place}/{name}"):
            raise BoxwrightError("volume.exists", f"the volume {volume} has a snapshot {name} already")
        new = f"{place}/{_NEW}{name}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            _copy(source, new, volume)
            os.rename(new, f"{place}/{name}")
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def restore_snapshot(self, stack: str, volume: str, name: str) -> None:
        """A copy of the snapshot takes the volume's place."""
        kept = self._snapshot(stack, volume, name)
        self._put(stack, volume, lambda new: _run([*_COPY, kept, new], volume))

    def delete_snapshot(self, stack: str, volume: str, name: str) -> None:
        """Remove it."""
        kept = self._snapshot(stack, volume, name)
        gone = f"{self.snapshots_directory(stack, volume)}/{_OLD}{name}"
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(kept, gone)
        shutil.rmtree(gone)

    def _snapshot(self, stack: str, volume: str, name: str) -> str:
        self.volume_directory(stack, volume)
        known = [it.name for it in self.snapshots(stack, volume)]
        if name not in known:
            hint = f"there is {', '.join(known) or 'none'}"
            raise BoxwrightError("volume.no-snapshot", f"the volume {volume} has no snapshot {name}", hint=hint)
        return f"{self.snapshots_directory(stack, volume)}/{name}"

    def _put(self, stack: str, volume: str, make: Callable[[str], None]) -> None:
        """Put what `make` makes in the volume's place."""
        directory = self.volume_directory(stack, volume)
        parent, base = os.path.split(directory)
        new = f"{parent}/{_NEW}{base}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            make(new)
            _exchange(new, directory)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    # Backups ----------------------------------------------------------------------------------------------------------

    def write_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """A tar archive of its content, with numbers of owners, attributes and ACLs."""
        _run([*_TAR, "--create", "--directory", self.volume_directory(stack, volume), "."], volume, written=file)

    def read_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """From such an archive. Raises BoxwrightError `volume.backup`."""

        def unpack(new: str) -> None:
            os.mkdir(new, 0o700)
            try:
                _run([*_TAR, "--extract", "--preserve-permissions", "--directory", new], volume, read=file)
            except BoxwrightError as error:
                hint = "what was there is there still"
                raise BoxwrightError("volume.backup", f"this is no backup: {error.message}", hint=hint) from error

        self._put(stack, volume, unpack)

    # Copies -----------------------------------------------------------------------------------------------------------

    def copy_volume(self, stack: str, name: str, member: str) -> None:
        """Raises BoxwrightError `volume.one-host`."""
        raise _one_host(stack, name, member)

    def drop_copy(self, stack: str, name: str, member: str) -> None:
        """Raises BoxwrightError `volume.one-host`."""
        raise _one_host(stack, name, member)

    def promote_copy(self, stack: str, name: str, lost: str, member: str) -> None:
        """Raises BoxwrightError `volume.one-host`."""
        raise _one_host(stack, name, f"{lost} or {member}")

    def delete_stale(self, stack: str, name: str, member: str) -> None:
        """Raises BoxwrightError `volume.one-host`."""
        raise _one_host(stack, name, member)

    @contextmanager
    def guard(
        self, stack: str, seconds: float, grace: float, tell: Callable[[str, str], None]
    ) -> Iterator[Callable[[Collection[str]], None] | None]:
        """Nothing: nobody could take over."""
        del stack, seconds, grace, tell
        yield None

    def home(self) -> str:
        """No cluster's."""
        return ""

    def unreachable(self) -> Collection[str]:
        """None."""
        return ()

    def guards(self, stack: str) -> Mapping[str, GuardNote]:
        """None: nobody could take over."""
        del stack
        return {}


def unknown_volume(stack: str, volume: str) -> BoxwrightError:
    """The stack has no volume of this name."""
    hint = f"'boxwright volume ls {stack}' lists them"
    return BoxwrightError("volume.unknown", f"{stack} has no volume {volume}", hint=hint)


def _one_host(stack: str, name: str, member: str) -> BoxwrightError:
    message = f"the volume {name} of {stack} has no copies: this engine has one host, and knows no {member}"
    return BoxwrightError("volume.one-host", message, hint="copies need an LXD cluster: cluster: {engine: lxd}")


def _run(words: Sequence[str], volume: str, *, written: BinaryIO | None = None, read: BinaryIO | None = None) -> None:
    """Raises BoxwrightError `volume.failed`."""
    done = subprocess.run(
        words,
        stdin=read or subprocess.DEVNULL,
        stdout=written or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    # tar says 1 of files that changed while they were read: what runs goes on writing.
    if done.returncode and not (written is not None and done.returncode == 1):
        raise _failed(volume, done.stderr.decode(errors="replace").strip().splitlines(), words[0])


def _failed(volume: str, said: Sequence[str], program: str) -> BoxwrightError:
    return BoxwrightError("volume.failed", f"{volume}: {said[-1] if said else program}")


def _copy(source: str, new: str, volume: str) -> None:
    """All that is there while its files come, go and take each other's places.

    cp goes on after such a file, and leaves it out, also where another one has its name by then: that is added by tar,
    which takes what it opens. Raises BoxwrightError `volume.failed` for all other failures.
    """
    done = subprocess.run([*_COPY, source, new], stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=False)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if not done.returncode:
        return
    if done.returncode != 1 or not said or not all(it.endswith(_ELSEWHERE) for it in said):
        raise _failed(volume, said, "cp")
    with TemporaryFile() as names, TemporaryFile() as archive:
        names.write(b"".join(os.fsencode(it) + b"\0" for it in _missing(source, new)))
        for file in (names, archive):
            file.seek(0)
        words = ["--null", "--verbatim-files-from", "--no-recursion", "--ignore-failed-read", "--files-from=-"]
        _run([*_TAR, "--create", "--directory", source, *words], volume, written=archive, read=names)
        archive.seek(0)
        _run([*_TAR, "--extract", "--preserve-permissions", "--directory", new], volume, read=archive)


def _missing(source: str, new: str) -> Iterator[str]:
    """What the copy does not have, with a directory before what is in it."""
    for directory, inner, files in os.walk(source):
        for name in (*inner, *files):
            path = os.path.relpath(f"{directory}/{name}", source)
            if not os.path.lexists(f"{new}/{path}"):
                yield path


def _exchange(one: str, other: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise BoxwrightError("volume.failed", f"{other} can't be replaced: {os.strerror(number)}")
