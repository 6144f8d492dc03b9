"""One question to a TCP port, and the beginning of what it answers."""

from __future__ import annotations

import socket

MOST = 4096


def exchange(connection: socket.socket, request: bytes, timeout: float) -> bytes:
    """Send the request; read until a line is whole. Without a request nothing is read. Raises OSError."""
    with connection:
        connection.settimeout(timeout)
        if not request:
            return b""
        connection.sendall(request)
        answer = b""
        while b"\n" not in answer and len(answer) < MOST:
            data = connection.recv(MOST)
            if not data:
                break
            answer += data
        return answer
