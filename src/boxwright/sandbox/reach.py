"""Connections that begin inside a sandbox's network."""

from __future__ import annotations

import os
import socket
import threading

from boxwright.sandbox import syscalls


def connect_inside(namespace: str, address: tuple[str, int], timeout: float) -> socket.socket:
    """A TCP connection from inside the network namespace at this path. Raises OSError.

    A thread of its own makes it, since a network namespace is a thread's (setns(2)); the socket stays in it.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(fd, syscalls.CLONE_NEWNET)
            finally:
                os.close(fd)
            made.append(socket.create_connection(address, timeout))
        except OSError as error:
            made.append(error)

    maker = threading.Thread(target=make)
    maker.start()
    maker.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
