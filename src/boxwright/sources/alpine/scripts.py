"""Packages' own scripts, run in the tree that they are for (apk-package(5), "INSTALL SCRIPTS").

Each has mount, process, IPC and network namespaces of its own and sees the tree, an empty /dev with the harmless
devices, and /proc: what mmdebstrap gives the scripts of Debian's packages, without the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from boxwright.errors import FetchError
from boxwright.sources.process import run_program

_NAME = ".boxwright-script"
_NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child")
_PREPARE = """cd "$1"; shift
mkdir -p proc dev
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
for device in full null random urandom zero; do : >dev/$device; mount --bind /dev/$device dev/$device; done
exec chroot . /.boxwright-script "$@"
"""


def run_script(
    root: str,
    title: str,
    script: bytes,
    arguments: Sequence[str],
    output: Callable[[bytes], None],
    cancelled: Callable[[], bool],
) -> None:
    """Run a script in the tree at `root`. Raises FetchError `base.script` where it fails."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(_NAME, flags, 0o700, dir_fd=directory), "wb") as file:
            file.write(script)
        try:
            argv = ["unshare", *_NAMESPACES, "sh", "-euc", _PREPARE, "sh", root, *arguments]
            environment = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            finished = run_program(argv, package="util-linux", output=output, cancelled=cancelled, env=environment)
        finally:
            os.unlink(_NAME, dir_fd=directory)
    finally:
        os.close(directory)
    if finished.status:
        tail = "\n".join(finished.tail.splitlines()[-8:])
        raise FetchError(
            "base.script", f"{title} ended with {finished.status}:\n{tail}", hint="is the mirror complete?"
        )
