"""A small pool of user-mode networks: made when first needed, one sandbox at a time in each."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass

from boxwright.sandbox import channel, network


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace, alive as long as `session` is open."""

    fd: int
    session: socket.socket

    def close(self) -> None:
        """End its program."""
        os.close(self.fd)
        self.session.close()


class NetworkPool:
    """Networks that are free; any thread may take one."""

    def __init__(self, control: socket.socket, root: str) -> None:
        self._control = control
        self._root = root
        self._lock = threading.Lock()
        self._free: list[Network] = []
        self._coming: socket.socket | None = None

    def prepare(self) -> None:
        """Have one made meanwhile: the first `take` finds it."""
        self._coming = channel.send(self._control, network.request(self._root), [])

    def take(self) -> Network:
        """One for the caller alone, until `give_back` or its own `close`."""
        with self._lock:
            while self._free:
                found = self._free.pop()
                if _is_alive(found):
                    return found
                found.close()
            session, self._coming = self._coming, None
        if session is None:
            session = channel.send(self._control, network.request(self._root), [])
        try:
            _, fds = channel.expect(session)
        except BaseException:
            session.close()
            raise
        return Network(fds[0], session)

    def give_back(self, used: Network) -> None:
        """The next may have it."""
        with self._lock:
            self._free.append(used)

    def close(self) -> None:
        """End those that are free."""
        with self._lock:
            if self._coming is not None:
                self._coming.close()
            for unused in self._free:
                unused.close()
            self._free.clear()


def _is_alive(found: Network) -> bool:
    try:
        found.session.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False  # a report that it ended, or the end of the launcher
