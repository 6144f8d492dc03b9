"""Messages with descriptors (unix(7)).

Python 3.11's socket.recv_fds ignores its flags, so that what it takes would be inherited by programs.
"""

from __future__ import annotations

import array
import socket
from typing import Final

_MOST: Final = 16


def receive(source: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """A message and its descriptors, which are closed on execve(2)."""
    fds = array.array("i")
    space = socket.CMSG_SPACE(_MOST * fds.itemsize)
    data, ancillary, _, _ = source.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)
