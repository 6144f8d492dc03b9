"""A tree as a directory, with owners, modes, extended attributes and times."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from boxwright.errors import BoxwrightError, MachineError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.members import Member, members
from boxwright.images.paths import fresh_directory, is_empty, not_empty, telling
from boxwright.images.tarstream import changed, open_content
from boxwright.model.image import Image
from boxwright.model.tree import BLOCK, CHAR, DIRECTORY, FIFO, FILE, SYMLINK, Entry, decode_xattrs
from boxwright.ports import TreeReader

_DEVICES = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}
_COPY = 8 << 20


@dataclass(slots=True)
class _Progress:
    """Bytes written, and directories whose times are still to be set."""

    size: int = 0
    directories: list[tuple[str, Entry]] = field(default_factory=list)


def mark_of(destination: Path) -> Path:
    """The file beside a directory that says which image we wrote there, and the directory's inode number."""
    return destination.with_name(f".{destination.name}.boxwright")


def write_rootfs(image: Image, reader: TreeReader, destination: Path) -> WrittenArtifact:
    """Write it beside and rename it. What is there already goes only if it is empty or was written by us."""
    with telling(destination):
        ours = not destination.is_symlink() and destination.is_dir() and _is_marked(destination)
        if not ours and not is_empty(destination):
            raise not_empty(destination, "a root file system that boxwright wrote")
        if ours:
            _refuse_mounts(destination)
    progress = _Progress()
    with fresh_directory(destination, replace=ours) as temporary:
        for member in members(reader, image.snapshot):
            _place(str(temporary), member, progress)
        for path, entry in reversed(progress.directories):
            os.chmod(path, entry.mode & 0o7777)
            os.utime(path, (entry.mtime, entry.mtime))
    with telling(destination):
        mark_of(destination).write_text(f"{image.identity} {destination.stat().st_ino}\n")
    return WrittenArtifact("rootfs", destination, image.identity, progress.size)


def _is_marked(destination: Path) -> bool:
    """Whether this very directory is what we wrote: another of the same name has another inode number."""
    mark = mark_of(destination)
    return mark.is_file() and mark.read_text().split()[1:] == [str(destination.stat().st_ino)]


def _refuse_mounts(destination: Path) -> None:
    """Never take away a directory in which something is mounted."""
    inside = os.fsencode(destination.resolve())
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = line.split(b" ")[4].replace(b"\\040", b" ")
        if point == inside or point.startswith(inside + b"/"):
            raise BoxwrightError(
                "output.busy", f"something is mounted at {os.fsdecode(point)}", hint="unmount it first"
            )


def _place(top: str, member: Member, progress: _Progress) -> None:
    """Make one path. Parents come first and were made here, so no link of the tree is ever followed."""
    path, entry, physical, link = member
    target = f"{top}/{path}" if path else top
    if link is not None:
        os.link(f"{top}/{link}", target, follow_symlinks=False)
        return
    if entry.kind == DIRECTORY:
        if path:
            os.mkdir(target, 0o700)
        progress.directories.append((target, entry))
    elif entry.kind == FILE:
        _copy(path, entry, physical, target)
        progress.size += entry.size
    elif entry.kind == SYMLINK:
        os.symlink(entry.data, target)
    elif entry.kind == FIFO:
        os.mkfifo(target, 0o600)
    else:
        _make_device(path, entry, target)
    _dress(path, entry, target)


def _copy(path: str, entry: Entry, physical: str | None, target: str) -> None:
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not entry.size:
            return
        source = open_content(path, entry.size, physical)
        try:
            missing = entry.size
            while missing:
                done = os.sendfile(out, source, None, min(missing, _COPY))
                if not done:
                    raise changed(path, "it became shorter while it was read")
                missing -= done
        finally:
            os.close(source)
    finally:
        os.close(out)


def _make_device(path: str, entry: Entry, target: str) -> None:
    major, _, minor = entry.data.partition(":")
    try:
        os.mknod(target, _DEVICES[entry.kind] | 0o600, os.makedev(int(major), int(minor)))
    except PermissionError as error:
        raise MachineError(
            "output.no-devices", f"the device /{path} can't be made here", hint="run as root, or use -o tar:FILE"
        ) from error


def _dress(path: str, entry: Entry, target: str) -> None:
    """Owner, then mode (a change of owner clears set-id bits) and attributes (it clears capabilities), then time."""
    try:
        os.lchown(target, entry.uid, entry.gid)
        for name, value in decode_xattrs(entry.xattrs):
            os.setxattr(target, name, value, follow_symlinks=False)
    except PermissionError as error:
        raise MachineError(
            "output.no-owners",
            f"the owner or the attributes of /{path} can't be set here",
            hint="run as root, or use -o tar:FILE",
        ) from error
    if entry.kind == DIRECTORY:
        return
    if entry.kind != SYMLINK:
        os.chmod(target, entry.mode & 0o7777)
    os.utime(target, (entry.mtime, entry.mtime), follow_symlinks=False)
