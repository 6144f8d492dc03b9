"""The reduced tree: what a Remote Execution server could show of a root file system (decision 5 in the design).

No owners, no attributes, no devices, one time, two modes: so a build sees the same here and there.
"""

from __future__ import annotations

import os
import stat

TIME = 315532800
MOUNT_POINTS = ("proc", "dev", "build", "tmp", "sys", "run")
USER = "build:x:1000:1000:build:/build/home:/bin/sh\n"
GROUP = "build:x:1000:\n"


def reduce_tree(root: str) -> None:
    """Make the tree below `root` one, with the mount points and the user of a build in it."""
    for parent, directories, files in os.walk(root, topdown=False):
        for name in (*files, *directories):
            _reduce(f"{parent}/{name}")
    for name in MOUNT_POINTS:
        if not os.path.lexists(f"{root}/{name}"):
            os.mkdir(f"{root}/{name}", 0o755)
            os.chmod(f"{root}/{name}", 0o755)  # noqa: S103 - whatever the caller's umask
            os.utime(f"{root}/{name}", (TIME, TIME))
    _add_line(f"{root}/etc/passwd", USER)
    _add_line(f"{root}/etc/group", GROUP)
    _reduce(root)


def _reduce(path: str) -> None:
    status = os.lstat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        os.unlink(path)
        return
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)
    if status.st_uid or status.st_gid:
        os.chown(path, 0, 0, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        mode = 0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & 0o111 else 0o644
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(path, mode)
    os.utime(path, (TIME, TIME), follow_symlinks=False)


def _add_line(path: str, line: str) -> None:
    """To a file of accounts, where it doesn't know that name."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.mkdir(directory)
        _reduce(directory)
    text = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    if f"\n{line.partition(':')[0]}:" not in f"\n{text}":
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
    os.chmod(path, 0o644)
    os.utime(path, (TIME, TIME))
