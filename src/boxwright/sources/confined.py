"""Directories below one root, reached without ever leaving it.

Each component is opened by itself with O_NOFOLLOW; a symbolic link is read and followed here as a process whose root
directory this is would follow it (chroot(2)): an absolute target starts again at the root, ``..`` stops there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from boxwright.errors import FetchError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40

Parts = tuple[bytes, ...]


def show(parts: Parts | bytes) -> str:
    """A name for a message."""
    name = parts if isinstance(parts, bytes) else b"/".join(parts)
    return repr(name.decode("utf-8", "backslashreplace"))


def parts_of(name: bytes, what: str = "a member") -> Parts:
    """The components of a name in an archive; an absolute one counts from the root. ``..`` is refused."""
    parts = tuple([part for part in name.split(b"/") if part and part != b"."])
    if b".." in parts:
        raise FetchError(
            "unpack.escape", f"the archive is refused: {what} {show(name)} points out of it", hint="look at who made it"
        )
    if b"\0" in name or len(name) > 4095 or any(len(part) > 255 for part in parts):
        raise FetchError("unpack.damaged", f"the archive is damaged: {what} has an impossible name")
    return parts


class Confined:
    """Open directories below a root, the chain to the newest one kept open.

    `follow(real path)` says whether the symbolic link there is followed; one that isn't is replaced by a directory.
    `opened(descriptor, real path, made)` hears of each directory that is opened.
    """

    def __init__(
        self,
        root: str,
        follow: Callable[[Parts], bool],
        opened: Callable[[int, Parts, bool], None],
    ) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._follow = follow
        self._opened = opened
        self._asked: Parts = ()
        self._real: list[bytes] = []
        self._chain: list[int] = []

    def close(self) -> None:
        """Close everything."""
        self._leave(0)
        os.close(self.root)

    @property
    def real(self) -> Parts:
        """Where the directory that was entered last truly is."""
        return tuple(self._real)

    def enter(self, parts: Parts, *, make: bool) -> int | None:
        """A descriptor of the directory at `parts`, good until the next call. None: not there, and not made."""
        if parts == self._asked:
            return self._chain[-1] if self._chain else self.root
        if tuple(self._real) != self._asked:
            self._leave(0)
        common = 0
        for mine, wanted in zip(self._real, parts, strict=False):
            if mine != wanted:
                break
            common += 1
        self._leave(common)
        self._asked = tuple(self._real)
        if not self._walk(list(reversed(parts[common:])), make=make):
            self._asked = tuple(self._real)
            return None
        self._asked = parts
        return self._chain[-1] if self._chain else self.root

    def _leave(self, depth: int) -> None:
        while len(self._chain) > depth:
            os.close(self._chain.pop())
            self._real.pop()

    def _walk(self, waiting: list[bytes], *, make: bool) -> bool:
        links = 0
        while waiting:
            name = waiting.pop()
            if name == b"..":
                self._leave(max(0, len(self._chain) - 1))
                continue
            here = self._chain[-1] if self._chain else self.root
            try:
                self._push(os.open(name, _OPEN, dir_fd=here), name, made=False)
                continue
            except FileNotFoundError:
                if not make:
                    return False
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                target = self._link(name, here)
                if target is not None:
                    links += 1
                    if links > _LINKS:
                        raise FetchError("unpack.damaged", f"symbolic links without end at {show(name)}") from error
                    if target.startswith(b"/"):
                        self._leave(0)
                    waiting += [part for part in reversed(target.split(b"/")) if part and part != b"."]
                    continue
                if not make:
                    return False
                os.unlink(name, dir_fd=here)
            os.mkdir(name, 0o755, dir_fd=here)
            self._push(os.open(name, _OPEN, dir_fd=here), name, made=True)
        return True

    def _link(self, name: bytes, here: int) -> bytes | None:
        """The target of the link that is to be followed there."""
        with suppress(OSError):
            target = os.readlink(name, dir_fd=here)
            if self._follow((*self._real, name)):
                return target
        return None

    def _push(self, descriptor: int, name: bytes, *, made: bool) -> None:
        self._chain.append(descriptor)
        self._real.append(name)
        self._opened(descriptor, tuple(self._real), made)
