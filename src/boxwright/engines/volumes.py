"""Volumes: what ``-v`` means, and where the bytes of named and of containers' own volumes lie.

As in Docker, a volume that is new is given what the image holds at its path; a directory of the host is taken as it is.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from boxwright.engines.records import Mounted
from boxwright.errors import BoxwrightError, UsageError
from boxwright.files import give_attributes
from boxwright.model.change import Located
from boxwright.model.image import Snapshot
from boxwright.model.tree import BLOCK, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry, Manifest

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_NEW = ".new-"


class Tree(Protocol):
    """Reads one image's tree: the store."""

    def entries(self, full: str) -> Mapping[str, Entry]:
        """The entries of a directory object, by name."""
        ...

    def locate(self, manifest: Manifest, path: str, *, follow: bool = True) -> Located:
        """Follow `path` inside the tree, never out of it."""
        ...

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        """Where the bytes of `path` lie."""
        ...


class VolumeOption(NamedTuple):
    """One ``-v``: `source` is an absolute path, a volume's name, or empty for a volume of the container's own."""

    source: str
    target: str
    read_only: bool = False


def parse_volume(text: str) -> VolumeOption:
    """``[HOST_OR_NAME:]TARGET[:ro]``. A path of the host has a slash or is ``.``. Raises UsageError `usage.volume`."""
    words = text.split(":")
    modes: list[str] = []
    if len(words) > 1 and not words[-1].startswith("/"):
        modes = words.pop().split(",")
    source, target = ("", words[0]) if len(words) == 1 else (words[0], words[1])
    good = len(words) <= 2 and target.startswith("/") and set(modes) <= {"ro", "rw", "z", "Z"}
    if not good or (len(words) == 2 and not source):
        raise UsageError("usage.volume", f"-v {text}: no volume", hint="-v [HOST_PATH|NAME:]/TARGET[:ro]")
    if "/" in source or source in (".", ".."):
        source = os.path.abspath(source)
    elif source and not _NAME.fullmatch(source):
        raise UsageError("usage.volume", f"-v {text}: {source!r} is no name for a volume")
    return VolumeOption(source, _normal(target), "ro" in modes)


def check_name(name: str) -> str:
    """`name`, which can be a volume's. Raises UsageError `usage.volume`."""
    if not _NAME.fullmatch(name):
        raise UsageError("usage.volume", f"{name!r} is no name for a volume")
    return name


def _normal(target: str) -> str:
    path = "/" + posixpath.normpath(target).lstrip("/")
    if path == "/":
        raise UsageError("usage.volume", "a volume can't be mounted on /")
    return path


def plan_volumes(
    given: Sequence[VolumeOption], declared: Sequence[str], inherited: Sequence[Mounted]
) -> tuple[VolumeOption | Mounted, ...]:
    """What is mounted, one for each target: given ones, other containers', then what the image declares."""
    chosen: dict[str, VolumeOption | Mounted] = {}
    ordered: list[VolumeOption | Mounted] = [*given, *inherited]
    ordered += [VolumeOption("", _normal(path)) for path in declared]
    for option in ordered:
        chosen.setdefault(option.target, option)
    return tuple(chosen[target] for target in sorted(chosen))


class Volumes:
    """The named volumes below `directory`, filled from images' trees."""

    def __init__(self, directory: str, tree: Tree) -> None:
        self._directory = directory
        self._tree = tree

    def provide(self, planned: Sequence[VolumeOption | Mounted], snapshot: Snapshot, own: str) -> tuple[Mounted, ...]:
        """Make what is missing; `own` is where the container's own volumes go.

        Raises BoxwrightError `run.volume-missing` for a path of the host that is not there.
        """
        result: list[Mounted] = []
        for number, option in enumerate(planned):
            if isinstance(option, Mounted):
                result.append(option)
            elif option.source.startswith("/"):
                if not os.path.lexists(option.source):
                    message = f"{option.source}, which should be mounted on {option.target}, is not there"
                    raise BoxwrightError("run.volume-missing", message, hint=f"mkdir {option.source}")
                result.append(Mounted(option.source, option.target, option.read_only))
            elif option.source:
                place = self._named(option, snapshot)
                result.append(Mounted(place, option.target, option.read_only, option.source))
            else:
                os.makedirs(own, mode=0o711, exist_ok=True)
                place = f"{own}/{number}"
                fill(self._tree, snapshot, option.target, place)
                result.append(Mounted(place, option.target, option.read_only))
        return tuple(result)

    def _named(self, option: VolumeOption, snapshot: Snapshot) -> str:
        """The place of a named volume; made aside and moved, so that one of two processes wins."""
        place = f"{self._directory}/{option.source}"
        if not os.path.isdir(place):
            os.makedirs(self._directory, mode=0o711, exist_ok=True)
            new = f"{self._directory}/{_NEW}{os.getpid()}-{option.source}"
            shutil.rmtree(new, ignore_errors=True)
            fill(self._tree, snapshot, option.target, new)
            try:
                os.rename(new, place)
            except OSError:
                shutil.rmtree(new, ignore_errors=True)
                if not os.path.isdir(place):
                    raise
        return place


def fill(tree: Tree, snapshot: Snapshot, path: str, directory: str) -> None:
    """Make `directory` a copy of what a snapshot holds at `path`; an empty one where that is no directory."""
    os.mkdir(directory, 0o755)
    try:
        found = tree.locate(snapshot.manifest, path.lstrip("/"))
        if found.entry is not None and found.entry.kind == DIRECTORY:
            _Filler(tree, snapshot, found.path, directory).directory(found.path, directory, found.entry)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


class _Filler:
    """One copy: `top` is the path in the tree that becomes `directory`."""

    def __init__(self, tree: Tree, snapshot: Snapshot, top: str, directory: str) -> None:
        self._tree = tree
        self._snapshot = snapshot
        self._top = top
        self._directory = directory

    def directory(self, path: str, place: str, entry: Entry) -> None:
        """Copy what is in a directory, then its attributes."""
        if entry.full:
            for name, child in self._tree.entries(entry.full).items():
                self._entry(f"{path}/{name}".lstrip("/"), f"{place}/{name}", child)
        give_attributes(place, entry)

    def _entry(self, path: str, place: str, entry: Entry) -> None:
        if entry.kind == DIRECTORY:
            os.mkdir(place, 0o700)
            self.directory(path, place, entry)
            return
        if entry.kind == HARDLINK and self._link(entry.data, place):
            return
        if entry.kind in (FILE, HARDLINK):
            physical = self._tree.physical(self._snapshot, path)
            if physical is None:
                return
            shutil.copyfile(physical, place, follow_symlinks=False)
            entry = entry._replace(kind=FILE)
        elif entry.kind == SYMLINK:
            os.symlink(entry.data, place)
        elif entry.kind == FIFO:
            os.mkfifo(place)
        elif not _device(place, entry):
            return
        give_attributes(place, entry)

    def _link(self, first: str, place: str) -> bool:
        """A hard link to the first name of the group, where that is in the volume too and copied already."""
        prefix = f"{self._top}/" if self._top else ""
        if first.startswith(prefix):
            with suppress(FileNotFoundError):
                os.link(f"{self._directory}/{first.removeprefix(prefix)}", place, follow_symlinks=False)
                return True
        return False


def _device(place: str, entry: Entry) -> bool:
    """Make a device node; in a user namespace the kernel refuses, and the volume goes without."""
    major, _, minor = entry.data.partition(":")
    kind = {CHAR: 0o020000, BLOCK: 0o060000}[entry.kind]
    with suppress(PermissionError):
        os.mknod(place, kind | 0o600, os.makedev(int(major), int(minor)))
        return True
    return False
