"""The users of a container that runs on this machine, read from its tree without asking its engine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

Read = Callable[[str], bytes | None]
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def root_of(pid: int, name: str) -> int | None:
    """A directory descriptor of a container's tree; None where the process is not of the container `name`.

    The engine may count processes otherwise than we do, where only its socket is in our container.
    """
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            if name not in file.read():
                return None
        return os.open(f"/proc/{pid}/root", _WAY & ~os.O_NOFOLLOW)
    except OSError:
        return None


class Accounts:
    """Reads files in which users stand: directly below the directory `root`, else by `ask`."""

    def __init__(self, ask: Read, root: int | None) -> None:
        self._ask = ask
        self._root = root

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where there is none. Links, which lead who knows where, are left to the engine."""
        if self._root is None:
            return self._ask(path)
        at = os.dup(self._root)
        *directories, last = path.strip("/").split("/")
        try:
            for name in directories:
                below = os.open(name, _WAY, dir_fd=at)
                os.close(at)
                at = below
            file = os.open(last, _FILE, dir_fd=at)
        except FileNotFoundError:
            return None
        except OSError:
            return self._ask(path)
        finally:
            os.close(at)
        with open(file, "rb") as opened:
            return opened.read() if stat.S_ISREG(os.fstat(file).st_mode) else None

    def close(self) -> None:
        """Let the tree go."""
        if self._root is not None:
            os.close(self._root)
            self._root = None
