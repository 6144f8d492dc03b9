"""What a build sees of a dependency: as a Remote Execution server would show it (decision 5 in the design).

Such a tree has no owners, attributes and special modes. Packages may have them: a layer on top hides them.
"""

from __future__ import annotations

import os
import shutil

from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, Entry
from boxwright.ports import TreeFile, TreeReader


class PlainLayers:
    """Lays such layers; what a snapshot needs is found out once."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._special: dict[str, tuple[TreeFile, ...]] = {}

    def lay(self, snapshot: Snapshot, directory: str) -> tuple[str, ...]:
        """The layers of a snapshot, with one made in `directory` on top where there is something to hide."""
        special = self._special.get(snapshot.manifest.full)
        if special is None:
            special = tuple(file for file in self._reader.walk(snapshot) if _is_special(file.entry))
            self._special[snapshot.manifest.full] = special
        if not special:
            return snapshot.layers
        os.mkdir(directory, 0o755)
        for path, entry, physical in special:
            target = f"{directory}/{path}"
            _make_parents(directory, path)
            if entry.kind == DIRECTORY:
                os.makedirs(target, exist_ok=True)
            elif physical is not None:
                shutil.copyfile(physical, target)
                os.utime(target, (entry.mtime, entry.mtime))
            os.chmod(target, _plain_mode(entry))
        return (directory, *snapshot.layers)


def _make_parents(directory: str, path: str) -> None:
    above = directory
    for name in path.split("/")[:-1]:
        above = f"{above}/{name}"
        if not os.path.isdir(above):
            os.mkdir(above)
            os.chmod(above, 0o755)  # noqa: S103 - whatever the caller's umask


def _plain_mode(entry: Entry) -> int:
    return 0o755 if entry.kind == DIRECTORY or entry.mode & 0o111 else 0o644


def _is_special(entry: Entry) -> bool:
    if entry.kind not in (DIRECTORY, FILE, HARDLINK) or not entry.name:
        return False
    return bool(entry.uid or entry.gid or entry.xattrs) or entry.mode != _plain_mode(entry)
