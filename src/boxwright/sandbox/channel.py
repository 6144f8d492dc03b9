"""The main process's end of the sockets to the launcher's processes."""

from __future__ import annotations

import os
import socket
from typing import Final

from boxwright.errors import MachineError
from boxwright.sandbox import descriptors
from boxwright.sandbox.request import ATTACHED_RUN, OTHER, Failed, Report, Request, RunRequest, decode_report, encode

_MESSAGE: Final = 1 << 18


class GoneError(MachineError):
    """The launcher or its sandbox ended without a word."""

    def __init__(self) -> None:
        super().__init__("sandbox.launcher-gone", "the process that starts sandboxes has ended", hint="start again")


def send(control: socket.socket, request: Request, fds: list[int]) -> socket.socket:
    """Send a request with its descriptors; returns the session on which reports come. Any thread may do so."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    content = os.memfd_create("request")
    kind = ATTACHED_RUN if isinstance(request, RunRequest) and not request.detached else OTHER
    try:
        os.write(content, encode(request))
        socket.send_fds(control, [kind], [theirs.fileno(), content, *fds])
    except OSError as error:
        ours.close()
        raise GoneError from error
    finally:
        theirs.close()
        os.close(content)
    return ours


def receive(session: socket.socket) -> tuple[Report, list[int]]:
    """The next report and its descriptors."""
    try:
        data, fds = descriptors.receive(session, _MESSAGE)
    except ConnectionResetError:
        # The other end was closed with a KILL unread; what it sent before comes after this error (unix(7)).
        data, fds = descriptors.receive(session, _MESSAGE)
    if not data:
        raise GoneError
    return decode_report(data), fds


def expect(session: socket.socket) -> tuple[Report, list[int]]:
    """As `receive`, where a failure is an error."""
    report, fds = receive(session)
    if isinstance(report, Failed):
        raise report.error()
    return report, fds
