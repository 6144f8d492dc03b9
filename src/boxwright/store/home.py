"""The store's directory: where it is, and its layout.

- ``index.db``: the index (SQLite)
- ``l/NAME/``: a layer: what one step left, as an overlay's upper directory
- ``work/``: what is being made; each directory belongs to a live process that holds its lock
- ``locks/``: one file for each step that is running, held with flock(2)
- ``contexts/``: what is remembered of build contexts, to see quickly what changed
- ``cache/``: what can be made again at any time
- ``dumps/``: the first contents of images' databases, by digest; made when there is one
- ``containers/``: natively run containers
- ``caches/``: the directories of cache mounts; made when there is the first one
- ``secret.key``: with what secrets are hashed for keys that they count in; made when first needed
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from boxwright.errors import StoreError

PARTS = ("l", "work", "locks", "contexts", "cache", "containers")


class Home(NamedTuple):
    """The paths of a store."""

    root: str

    @property
    def database(self) -> str:
        """The index's file."""
        return f"{self.root}/index.db"

    @property
    def layers(self) -> str:
        """The directory of layers."""
        return f"{self.root}/l"

    @property
    def work(self) -> str:
        """Where layers are made."""
        return f"{self.root}/work"

    @property
    def locks(self) -> str:
        """The directory of locks."""
        return f"{self.root}/locks"

    @property
    def contexts(self) -> str:
        """What is remembered of build contexts."""
        return f"{self.root}/contexts"

    @property
    def cache(self) -> str:
        """What can be made again."""
        return f"{self.root}/cache"

    @property
    def caches(self) -> str:
        """The directories of cache mounts."""
        return f"{self.root}/caches"

    @property
    def secret_key(self) -> str:
        """The key of the hashes that stand for secrets."""
        return f"{self.root}/secret.key"

    @property
    def dumps(self) -> str:
        """The first contents of images' databases, each file named by its SHA-256."""
        return f"{self.root}/dumps"

    @property
    def containers(self) -> str:
        """Natively run containers."""
        return f"{self.root}/containers"


def default_root(environment: dict[str, str], user: int) -> str:
    """``BOXWRIGHT_HOME``, else the place of the system (root) or of the user (XDG base directories)."""
    given = environment.get("BOXWRIGHT_HOME")
    if given:
        return os.path.abspath(given)
    if user == 0:
        return "/var/lib/boxwright"
    data = environment.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"{data}/boxwright"


def open_home(root: str) -> Home:
    """Make what is missing of the store at `root`. Raises StoreError where that can't be written."""
    home = Home(root)
    try:
        if not os.path.isdir(home.containers):
            for part in PARTS:
                os.makedirs(f"{root}/{part}", mode=0o711, exist_ok=True)
    except OSError as error:
        raise unusable(root, error) from error
    if not os.access(home.work, os.W_OK):
        raise unusable(root, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return home


def unusable(root: str, error: OSError) -> StoreError:
    """The error for a store that can't be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "store.no-space", f"no space is left in the store {root}", hint="make room, or run 'boxwright gc'"
        )
    return StoreError(
        "store.unusable",
        f"the store {root} can't be used: {error.strerror or error}",
        hint="set BOXWRIGHT_HOME to a directory of your own that can be written",
    )
