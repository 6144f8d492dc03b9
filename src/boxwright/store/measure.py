"""What the store takes on the disk, with hard links counted once."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from boxwright.store.home import Home

BLOCK = 512
KEPT_LAYERS = "layers"
"""Below the cache: files of layers, most of which are names of files of the store's own layers."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The bytes that one layer alone holds, and those of files that other names may hold too, by inode."""

    private: int = 0
    shared: Mapping[int, int] = field(default_factory=dict)


def usage_of(directory: str) -> Usage:
    """What lies below a directory; nothing where it is gone."""
    private = 0
    shared: dict[int, int] = {}
    pending = [directory]
    while pending:
        place = pending.pop()
        try:
            with os.scandir(place) as listing:
                for item in listing:
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(item.path)
                        private += status.st_blocks * BLOCK
                    elif status.st_nlink > 1:
                        shared[status.st_ino] = status.st_blocks * BLOCK
                    else:
                        private += status.st_blocks * BLOCK
        except FileNotFoundError:
            continue
    return Usage(private, shared)


def beside_layers(home: Home) -> int:
    """The bytes of everything in the store but its layers."""
    total = sum(os.stat(path).st_blocks * BLOCK for path in _files_of_index(home))
    for directory in (home.cache, home.contexts, home.containers):
        usage = usage_of(directory)
        total += usage.private + sum(usage.shared.values())
    return total - sum(usage_of(f"{home.cache}/{KEPT_LAYERS}").shared.values())


def _files_of_index(home: Home) -> list[str]:
    return [path for path in (home.database, f"{home.database}-wal") if os.path.exists(path)]


class Account:
    """The bytes of a set of layers, of which some go."""

    def __init__(self, usages: Mapping[str, Usage]) -> None:
        self._usages = usages
        self._names = Counter(inode for usage in usages.values() for inode in usage.shared)
        self.total = sum(usage.private for usage in usages.values())
        sizes = {inode: size for usage in usages.values() for inode, size in usage.shared.items()}
        self.total += sum(sizes.values())

    def drop(self, layers: Iterable[str]) -> None:
        """These layers go."""
        for name in layers:
            usage = self._usages.get(name, Usage())
            self.total -= usage.private
            for inode, size in usage.shared.items():
                self._names[inode] -= 1
                if not self._names[inode]:
                    self.total -= size
