"""Where something is mounted: a path inside this process's root, followed one component at a time.

Symbolic links lead on inside the root. They are read as text and never followed by the kernel, since a link into /proc
(``/proc/self/cwd``, ``/proc/self/fd/5``) would lead out to the old root, which is still there while mounts are made.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

from boxwright.sandbox.request import SandboxError

_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40


class Place(NamedTuple):
    """`path` holds no symbolic link; `fd` is what lies there now, `parent` the directory that holds its name."""

    path: str
    parent: int
    fd: int

    @property
    def target(self) -> str:
        """A name for mount(2) that nobody can redirect."""
        return f"/proc/self/fd/{self.fd}"

    def mounted(self) -> int:
        """A descriptor of what was mounted there."""
        return os.open(os.path.basename(self.path), _PATH, dir_fd=self.parent)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        os.close(self.parent)


def find_place(path: str, made: list[tuple[str, bool]], *, is_directory: bool) -> Place:
    """The place that `path` names, made where it is missing; what was made is added to `made`.

    Raises SandboxError `sandbox.mount-point` where nothing of that kind can be mounted there.
    """
    walk = _Walk(path, made)
    try:
        walk.follow(is_directory=is_directory)
        return walk.end(is_directory=is_directory)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        raise SandboxError("sandbox.mount-point", f"{path}: {error.strerror}", fault="step") from error
    finally:
        walk.close()


class _Walk:
    """The way to one place: names from the root on, each with its descriptor."""

    def __init__(self, path: str, made: list[tuple[str, bool]]) -> None:
        self._path = path
        self._made = made
        self._names: list[str] = []
        self._fds = [os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]

    def follow(self, *, is_directory: bool) -> None:
        pending = self._path.split("/")[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                self._up()
                continue
            fd = self._enter(name, is_directory=is_directory or any(pending))
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                self._names.append(name)
                self._fds.append(fd)
                continue
            text = os.readlink("", dir_fd=fd)
            os.close(fd)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if text.startswith("/"):
                while self._names:
                    self._up()
            pending.extend(text.split("/")[::-1])

    def end(self, *, is_directory: bool) -> Place:
        if not self._names or self._names[0] == "proc":
            raise self._refused()
        if stat.S_ISDIR(os.fstat(self._fds[-1]).st_mode) != is_directory:
            kinds = ("a directory", "no directory") if is_directory else ("no directory", "a directory")
            message = f"{self._path} must be {kinds[0]} to be mounted on, but it is {kinds[1]}"
            raise SandboxError("sandbox.mount-point", message, fault="step")
        fd, parent = self._fds.pop(), self._fds.pop()
        return Place("/" + "/".join(self._names), parent, fd)

    def _refused(self) -> SandboxError:
        where = "it is in /proc" if self._names else "it is the root directory"
        message = f"nothing can be mounted on {self._path}: {where}"
        return SandboxError("sandbox.mount-point", message, fault="step")

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def _up(self) -> None:
        if self._names:
            self._names.pop()
            os.close(self._fds.pop())

    def _enter(self, name: str, *, is_directory: bool) -> int:
        try:
            return os.open(name, _PATH, dir_fd=self._fds[-1])
        except FileNotFoundError:
            if self._names[:1] == ["proc"]:
                raise self._refused() from None
            self._make(name, is_directory=is_directory)
            return os.open(name, _PATH, dir_fd=self._fds[-1])

    def _make(self, name: str, *, is_directory: bool) -> None:
        """The parent's time stays: a copied-up parent must look as it did."""
        here = self._fds[-1]
        before = os.fstat(here)
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=here)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644, dir_fd=here))
        self._made.append(("/" + "/".join((*self._names, name)), is_directory))
        os.utime(".", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=here)
