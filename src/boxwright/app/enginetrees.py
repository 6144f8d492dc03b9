"""Trees between the store and engines: packed for a build container, and cleaned of what an engine wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any, BinaryIO

from boxwright.files import give_attributes
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, SYMLINK
from boxwright.ports import TreeFile
from boxwright.steps.onengine import BOOTED, ENGINE_FILES, RESTORED, Trees
from boxwright.store.store import Store

BOOTING = frozenset({"lxc", "lxd"})
"""Engines whose build containers have an init of their own."""


def store_trees(store: Store) -> Trees:
    """Trees of the store as tars, and back."""
    return Trees(
        lambda snapshot, path: _pack(snapshot, path, store),
        lambda before, after, path: _pack_changes(before, after, path, store),
        _unpack,
        store.scratch,
    )


def _pack(snapshot: Snapshot, path: str, store: Store) -> None:
    import platform
    import tarfile

    from boxwright.engines.building.pause import PATH, pause_program
    from boxwright.images.streams import write_stream
    from boxwright.images.tarstream import write_end, write_tree

    pause = tarfile.TarInfo(PATH)
    program = pause_program(platform.machine())
    pause.mode, pause.size = 0o755, len(program)

    def produce(out: Any) -> None:  # noqa: ANN401 - a Pipeline
        out.write(pause.tobuf() + program + bytes(-len(program) % tarfile.BLOCKSIZE))
        write_tree(out, store, snapshot)
        write_end(out)

    with open(path, "xb") as file:
        write_stream(file, produce, "none")


def _pack_changes(before: Snapshot, after: Snapshot, path: str, store: Store) -> None:
    """Directories that are there stay as they are in the container, of which this is but a sketch."""
    from boxwright.images.difference import difference
    from boxwright.images.streams import write_stream
    from boxwright.images.tarstream import write_end, write_members

    there = {file.path for file in store.walk(before) if file.entry.kind == DIRECTORY}
    found = [it for it in difference(store, before, after) if it.entry.kind != DIRECTORY or it.path not in there]

    def produce(out: Any) -> None:  # noqa: ANN401 - a Pipeline
        write_members(out, found)
        write_end(out)

    with open(path, "xb") as file:
        write_stream(file, produce, "none")


def _unpack(file: BinaryIO, directory: str) -> None:
    from boxwright.sources.unpack import unpack_tar

    unpack_tar(file, directory)


def graft(top: str, base: Snapshot, newest: int | None, mounts: tuple[str, ...], store: Store, engine: str) -> None:
    """Take out what an engine wrote; what it wrote over is the base's again, with the times of its directories.

    Times that are later than `newest` and not those of the base are set back to it.
    """
    paths = (*ENGINE_FILES, *RESTORED, *(BOOTED if engine in BOOTING else ()))
    for path in paths:
        _remove(f"{top}/{path}")
    known = {file.path: file for file in store.walk(base)}
    parents = {os.path.dirname(path) for path in paths} | {""}
    for target in mounts:
        _remove_place(top, target.strip("/"), known)
    made = [file for path, file in known.items() if any(path == it or path.startswith(f"{it}/") for it in paths)]
    for file in made:
        _make(f"{top}/{file.path}", file)
    for parent in sorted(parents - {""}, reverse=True):
        if parent not in known and os.path.isdir(f"{top}/{parent}") and not os.listdir(f"{top}/{parent}"):
            os.rmdir(f"{top}/{parent}")
    if newest is not None:
        _set_back(top, {path: file.entry.mtime for path, file in known.items()}, newest)
    directories = [file for file in made if file.entry.kind == DIRECTORY]
    for parent in parents:
        names = {path.rpartition("/")[2] for path in known if path and path.rpartition("/")[0] == parent}
        if parent in known and set(os.listdir(f"{top}/{parent}")) == names:
            directories.append(known[parent])  # no step made or removed anything there
    for file in sorted(directories, key=lambda it: it.path, reverse=True):
        os.utime(f"{top}/{file.path}", (file.entry.mtime, file.entry.mtime))


def _remove_place(top: str, path: str, known: Mapping[str, TreeFile]) -> None:
    """Take out an empty mount point, and the empty directories above it, that the base does not have."""
    while path and path not in known and not os.path.islink(f"{top}/{path}"):
        place = f"{top}/{path}"
        if os.path.isdir(place):
            if os.listdir(place):
                return
            os.rmdir(place)
        elif os.path.exists(place):
            if os.path.getsize(place):
                return
            os.unlink(place)
        path = os.path.dirname(path)


def _make(target: str, file: TreeFile) -> None:
    if not os.path.isdir(os.path.dirname(target)):
        return
    if file.entry.kind == DIRECTORY:
        os.mkdir(target, 0o700)
    elif file.entry.kind == FILE:
        _copy(file.physical, target)
    elif file.entry.kind == SYMLINK:
        os.symlink(file.entry.data, target)
    else:
        return
    give_attributes(target, file.entry)


def _set_back(top: str, known: Mapping[str, int], newest: int) -> None:
    for directory, directories, files in os.walk(top, topdown=False):
        below = os.path.relpath(directory, top)
        prefix = "" if below == "." else f"{below}/"
        for name in (*files, *(it for it in directories if os.path.islink(f"{directory}/{it}"))):
            _set_time_back(f"{directory}/{name}", known.get(f"{prefix}{name}"), newest)
        _set_time_back(directory, known.get(prefix.rstrip("/")), newest)


def _set_time_back(path: str, known: int | None, newest: int) -> None:
    time = int(os.lstat(path).st_mtime)
    if time > newest and time != known:
        os.utime(path, (newest, newest), follow_symlinks=False)


def _copy(source: str | None, target: str) -> None:
    if source is None:
        open(target, "xb").close()
    else:
        shutil.copyfile(source, target, follow_symlinks=False)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
