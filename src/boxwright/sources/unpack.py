"""Unpack root file systems that strangers made: tars, and the layers of images.

One pass over a stream, written by this process itself: the names that are checked are the names that are used, which a
check before GNU tar could promise only for a file read twice. Nothing is opened by more than one component at a time
(see `confined`), so no symbolic link, whoever made it, leads out of the destination. Whiteouts are those of the OCI
image-spec, layer.md, "Whiteouts".

Devices directly below ``dev/`` are left out, as root too: a container's /dev is made when it runs, and an ordinary
user could not make them, so the same archive gives the same tree to both.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from boxwright.errors import BoxwrightError, FetchError, MachineError, StoreError
from boxwright.model.tree import IMPLIED
from boxwright.sources import tarmembers as tar
from boxwright.sources.compressed import compression_of, damaged, plain_reader
from boxwright.sources.confined import Confined, Parts, parts_of, show

_CHUNK = 1 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_NO_ID = 0xFFFFFFFF


_MOST_NAMES = 60_000
"""File systems have a limit for the names of one file: ext4's is 65,000."""
Keep = Callable[[tar.Member, int, bytes], None]
"""Hears of a member of a layer; a file is there under a name in an open directory (-1 and nothing: it is no file)."""
Replayed = tuple[tar.Member, str]
"""A member of a layer, and where the content of a file is kept."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may come to: members, bytes of all its files."""

    entries: int = 4_000_000
    size: int = 256 << 30


@dataclass(frozen=True, slots=True)
class _Attributes:
    """What a directory gets in the end. Without `mode` it keeps its own, and only its time is put back."""

    mtime: int
    mode: int | None = None
    owner: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def unpack_tar(
    source: BinaryIO | str | os.PathLike[str],
    destination_directory: str,
    *,
    overlay_whiteouts: bool = False,
    limits: Limits | None = None,
    adapt: Callable[[tar.Member], tar.Member | None] | None = None,
    mark_implied: bool = False,
    keep: Keep | None = None,
) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz or zstd) below a directory that is there.

    With `mark_implied` directories that no member lists carry the attribute `model.tree.IMPLIED`. `adapt` sees each
    member before it is unpacked and may give another owner or mode, or None to leave it out; `keep` hears of each
    when it is in its place.

    With `overlay_whiteouts` it is a layer on top of what is in the directory: whiteouts are applied, and a symbolic
    link of an earlier layer, where this one has a directory, is replaced by it. Owners and modes are as in the
    archive, times in whole seconds, of the extended attributes ``user.*`` and ``security.capability``.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb", buffering=0) as file:
            unpack_tar(
                file,
                destination_directory,
                overlay_whiteouts=overlay_whiteouts,
                limits=limits,
                adapt=adapt,
                mark_implied=mark_implied,
                keep=keep,
            )
        return
    with plain_reader(source) as stream, _telling():
        unpacking = _Unpacking(stream, destination_directory, limits or Limits(), layer=overlay_whiteouts, keep=keep)
        try:
            for member in tar.members(stream, need_end=not overlay_whiteouts):
                adapted = adapt(member) if adapt else member
                if adapted is None:
                    tar.skip(stream, member.size + -member.size % tar.BLOCK)
                else:
                    unpacking.add(adapted)
            tar.drain(stream)
            unpacking.finish(mark_implied=mark_implied)
        finally:
            unpacking.close()


def replay_layer(members: Iterable[Replayed], destination_directory: str, *, copy: bool = False) -> None:
    """Do again, on top of what is in a directory, what unpacking a layer did, each file linked from where it is kept.

    The tree is the one that `unpack_tar` with `overlay_whiteouts` makes. What is kept must be what was unpacked.
    `copy` is for a layer that was linked into this directory before: a second name would be a hard link.
    """
    with _telling():
        unpacking = _Replaying(destination_directory, copy=copy)
        try:
            for member, path in members:
                unpacking.replay(member, path)
            unpacking.finish()
        finally:
            unpacking.close()


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether ADD unpacks this file: a tar by its first header, compressed or not, whatever its name."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = os.pread(file.fileno(), tar.BLOCK, 0)
            if not compression_of(head):
                return tar.is_header(head)
            with plain_reader(file) as stream:
                return tar.is_header(stream.read(tar.BLOCK))
    except (FetchError, IsADirectoryError):
        return False


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error(error) from error


def _error(error: OSError) -> BoxwrightError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("unpack.no-space", f"the archive was not unpacked: {error.strerror}", hint="free some space")
    return StoreError("unpack.failed", f"the archive was not unpacked: {error}")


class _Unpacking:
    """One archive on its way into one directory."""

    def __init__(
        self, stream: io.BufferedReader, root: str, limits: Limits, *, layer: bool, keep: Keep | None = None
    ) -> None:
        self._stream = stream
        self._keep = keep or _not_kept
        self._limits = limits
        self._layer = layer
        self._entries = 0
        self._size = 0
        self._mtime = 0
        self._made: set[Parts] = set()
        self._links: set[Parts] = set()
        self._directories: dict[Parts, _Attributes] = {}
        self._tree = Confined(root, self._follows, self._opened)
        self._opened(self._tree.root, (), made=False)

    def close(self) -> None:
        """Close what is open."""
        self._tree.close()

    def _follows(self, path: Parts) -> bool:
        return not self._layer or path in self._links

    def _opened(self, descriptor: int, path: Parts, made: bool) -> None:  # noqa: FBT001 - called by position
        if path not in self._directories:
            mtime = self._mtime if made else int(os.fstat(descriptor).st_mtime // 1)
            self._directories[path] = _Attributes(mtime)

    def add(self, member: tar.Member) -> None:
        """Unpack one member; its bytes are read whatever becomes of it."""
        self._entries += 1
        self._size += member.size
        if self._entries > self._limits.entries or self._size > self._limits.size:
            raise FetchError(
                "unpack.too-large",
                f"the archive is refused: more than {self._limits.entries} members or {self._limits.size} bytes",
                hint="look at who made it",
            )
        self._mtime = member.mtime
        if max(member.uid, member.gid) >= _NO_ID:
            raise damaged(f"an impossible owner of {show(member.name)}")
        path = parts_of(member.name)
        if not path:
            if member.kind != tar.DIRECTORY:
                raise damaged("the root is no directory")
            self._directories[()] = _attributes_of(member)
            self._keep(member, -1, b"")
            return
        if self._layer and path[-1].startswith(_WHITEOUT):
            tar.skip(self._stream, member.size + -member.size % tar.BLOCK)
            self._whiteout(path[:-1], path[-1])
            self._keep(member._replace(size=0), -1, b"")
            return
        here = self._tree.enter(path[:-1], make=True)
        if here is None:  # pragma: no cover - `make` always gives one
            raise damaged(show(path))
        self._place(member, here, path[-1], path[:-1])
        self._keep(member, here, path[-1])

    def _place(self, member: tar.Member, here: int, name: bytes, asked: Parts) -> None:
        real = (*self._tree.real, name)
        self._links.discard(real)
        if self._layer:
            self._note(real)
        match member.kind:
            case tar.FILE:
                self._file(member, here, name)
            case tar.DIRECTORY:
                self._directory(member, here, name, real)
            case tar.SYMLINK:
                if not member.link or b"\0" in member.link or len(member.link) > 4095:
                    raise damaged(f"an impossible symbolic link {show(member.name)}")
                self._fresh(here, name, real)
                os.symlink(member.link, name, dir_fd=here)
                self._links.add(real)
                _give(member, here, name)
            case tar.HARDLINK:
                self._hard_link(member, here, name, asked)
            case _:
                self._special(member, here, name, real)

    def _note(self, path: Parts) -> None:
        """Remember that this layer brought `path`, and with it the directories above."""
        while path and path not in self._made:
            self._made.add(path)
            path = path[:-1]

    def _fresh(self, here: int, name: bytes, real: Parts) -> None:
        """Take away what stands there: the later of two is the one that counts."""
        try:
            os.unlink(name, dir_fd=here)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self._drop_tree(here, name, real)

    def _drop_tree(self, here: int, name: bytes, real: Parts) -> None:
        _remove_tree(here, name)
        depth = len(real)
        for path in [path for path in self._directories if path[:depth] == real]:
            del self._directories[path]
        self._links = {path for path in self._links if path[:depth] != real}

    def _file(self, member: tar.Member, here: int, name: bytes) -> None:
        try:
            target = os.open(name, _NEW_FILE, 0o600, dir_fd=here)
        except FileExistsError:
            self._fresh(here, name, (*self._tree.real, name))
            target = os.open(name, _NEW_FILE, 0o600, dir_fd=here)
        try:
            self._fill(target, member.size)
            _own(target, member)
            os.fchmod(target, member.mode)
            if member.xattrs:
                _set_xattrs(target, member.xattrs, member.name)
            os.utime(target, (member.mtime, member.mtime))
        finally:
            os.close(target)

    def _fill(self, target: int, size: int) -> None:
        padded = size + -size % tar.BLOCK
        while padded:
            data = tar.exactly(self._stream, min(padded, _CHUNK))
            padded -= len(data)
            view = memoryview(data)[:size]
            size -= len(view)
            while view:
                view = view[os.write(target, view) :]

    def _directory(self, member: tar.Member, here: int, name: bytes, real: Parts) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=here)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                self._fresh(here, name, real)
                os.mkdir(name, 0o700, dir_fd=here)
        self._directories[real] = _attributes_of(member)

    def _hard_link(self, member: tar.Member, here: int, name: bytes, asked: Parts) -> None:
        link = parts_of(member.link, "a hard link to")
        if not link:
            raise damaged(f"the hard link {show(member.name)} names nothing")
        sources = None
        try:
            if link[:-1] == asked:
                source: int | None = here
                same = link[-1] == name
            else:
                sources = Confined(os.fspath(f"/proc/self/fd/{self._tree.root}"), self._follows, _not_told)
                source = sources.enter(link[:-1], make=False)
                same = sources.real == self._tree.real and link[-1] == name
            if source is None:
                raise damaged(f"the hard link {show(member.name)} names {show(link)}, which is not there")
            if same:
                os.stat(name, dir_fd=here, follow_symlinks=False)
                return
            found = os.stat(link[-1], dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise damaged(f"{show(member.name)} is a hard link to a directory")
            self._fresh(here, name, (*self._tree.real, name))
            os.link(link[-1], name, src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                self._links.add((*self._tree.real, name))
        except FileNotFoundError as error:
            raise damaged(f"the hard link {show(member.name)} names {show(link)}, which is not there") from error
        finally:
            if sources is not None:
                sources.close()

    def _special(self, member: tar.Member, here: int, name: bytes, real: Parts) -> None:
        kinds = {tar.FIFO: stat.S_IFIFO, tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}
        if member.kind != tar.FIFO and real[0] == b"dev":
            self._made.discard(real)
            return
        if member.kind == tar.CHAR and member.device == (0, 0):
            raise _no_device(member, "it stands for a removed file to overlay file systems")
        self._fresh(here, name, real)
        try:
            os.mknod(name, kinds[member.kind] | 0o600, os.makedev(*member.device), dir_fd=here)
        except PermissionError as error:
            raise _no_device(member, "an ordinary user may not make devices") from error
        except (OSError, OverflowError) as error:
            raise _no_device(member, str(error)) from error
        _give(member, here, name)

    def _whiteout(self, parent: Parts, name: bytes) -> None:
        hidden = name[len(_WHITEOUT) :]
        if name != _OPAQUE and name.startswith(_AUFS):
            return
        if hidden in (b"", b".", b".."):
            raise FetchError("unpack.escape", f"the layer is refused: a whiteout {show(name)}")
        here = self._tree.enter(parent, make=False)
        if here is None:
            return
        for child in os.listdir(here) if name == _OPAQUE else [os.fsdecode(hidden)]:
            self._hide(here, os.fsencode(child), (*self._tree.real, os.fsencode(child)))

    def _hide(self, here: int, name: bytes, real: Parts) -> None:
        """Take away what earlier layers left at a path, and nothing that this one brought."""
        if real not in self._made:
            self._fresh(here, name, real)
            return
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=here)
        except OSError:
            return
        try:
            for child in os.listdir(directory):
                self._hide(directory, os.fsencode(child), (*real, os.fsencode(child)))
        finally:
            os.close(directory)

    def finish(self, *, mark_implied: bool = False) -> None:
        """Give the directories what they were promised, now that nothing changes them any more; the deepest first."""
        for path in sorted(self._directories, reverse=True):
            attributes = self._directories[path]
            directory = os.dup(self._tree.root) if not path else self._reopen(path)
            if directory is None:
                continue
            try:
                if attributes.mode is not None:
                    _own_as(directory, attributes.owner, b"/".join(path))
                    os.fchmod(directory, attributes.mode)
                    _set_xattrs(directory, attributes.xattrs, b"/".join(path))
                elif mark_implied and path:
                    os.setxattr(directory, IMPLIED, b"")
                os.utime(directory, (attributes.mtime, attributes.mtime))
            finally:
                os.close(directory)

    def _reopen(self, path: Parts) -> int | None:
        here = self._tree.enter(path[:-1], make=False)
        if here is None or self._tree.real != path[:-1]:
            return None
        try:
            return os.open(path[-1], _DIRECTORY, dir_fd=here)
        except (FileNotFoundError, NotADirectoryError):
            return None


class _Replaying(_Unpacking):
    """A layer that was unpacked before, on its way into one directory."""

    def __init__(self, root: str, *, copy: bool) -> None:
        super().__init__(io.BufferedReader(io.BytesIO()), root, Limits(), layer=True)
        self._copy = copy
        self._path = ""

    def replay(self, member: tar.Member, path: str) -> None:
        """Put one member into its place; a file's content is the file at `path`."""
        self._path = path
        self.add(member)

    def _file(self, member: tar.Member, here: int, name: bytes) -> None:
        if self._copy or os.stat(self._path, follow_symlinks=False).st_nlink >= _MOST_NAMES:
            super()._file(member, here, name)
            return
        self._fresh(here, name, (*self._tree.real, name))
        os.link(self._path, name, dst_dir_fd=here, follow_symlinks=False)

    def _fill(self, target: int, size: int) -> None:
        with open(self._path, "rb") as file:
            while data := file.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]


def _not_kept(member: tar.Member, here: int, name: bytes) -> None:
    """Nobody keeps it."""


def _not_told(descriptor: int, path: Parts, made: bool) -> None:  # noqa: FBT001 - called by position
    """Hear of a directory that was opened only to be linked from."""


def _remove_tree(here: int, name: bytes) -> None:
    shutil.rmtree(os.fsdecode(name), dir_fd=here)


def _attributes_of(member: tar.Member) -> _Attributes:
    return _Attributes(member.mtime, member.mode, (member.uid, member.gid), member.xattrs)


def _no_device(member: tar.Member, why: str) -> FetchError:
    return FetchError(
        "unpack.device",
        f"the archive has a device, {show(member.name)}, that can't be made: {why}",
        hint="take it out of the archive; below /dev devices are not needed",
    )


def _own(descriptor: int, member: tar.Member) -> None:
    _own_as(descriptor, (member.uid, member.gid), member.name)


def _own_as(descriptor: int, owner: tuple[int, int], name: bytes) -> None:
    try:
        os.fchown(descriptor, *owner)
    except (OSError, OverflowError) as error:
        raise _no_owner(error, owner, name) from error


def _no_owner(error: Exception, owner: tuple[int, int], name: bytes) -> MachineError:
    return MachineError(
        "unpack.owner",
        f"{show(name)} can't be given to user {owner[0]} and group {owner[1]}: {error}",
        hint="give this user a range of subordinate ids that holds them (/etc/subuid, /etc/subgid)",
    )


def _give(member: tar.Member, here: int, name: bytes) -> None:
    """The attributes of what can't be opened: symbolic links, FIFOs, devices."""
    try:
        os.chown(name, member.uid, member.gid, dir_fd=here, follow_symlinks=False)
    except (PermissionError, OverflowError) as error:
        raise _no_owner(error, (member.uid, member.gid), member.name) from error
    if member.kind != tar.SYMLINK:
        os.chmod(name, member.mode, dir_fd=here)
    os.utime(name, (member.mtime, member.mtime), dir_fd=here, follow_symlinks=False)


def _set_xattrs(descriptor: int, xattrs: tuple[tuple[bytes, bytes], ...], name: bytes) -> None:
    for key, value in xattrs:
        if key != b"security.capability" and (not key.startswith(b"user.") or key.startswith(b"user.overlay.")):
            continue
        try:
            os.setxattr(descriptor, key, value)
        except (OSError, ValueError) as error:
            raise MachineError(
                "unpack.attribute",
                f"{show(name)} can't be given the attribute {show(key)}: {error}",
                hint="keep the store on a file system with extended attributes (ext4, xfs, btrfs)",
            ) from error
