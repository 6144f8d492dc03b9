"""Commands in an instance: standard input, output and error as websockets, the exit status, signals."""

from __future__ import annotations

import contextlib
import json
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError, broken, malformed, timed_out
from boxwright.engines.lxdclient.transport import LOOK_SECONDS, PIECE, UNBOUNDED, Patience, close_websocket

if TYPE_CHECKING:
    import websocket

Output = Callable[[bytes], None]
END_SECONDS = 10.0
"""How long the operation of a command may last once its output has ended."""
_KILL = 9
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LAST = "0"
"""The websocket that is connected last: LXD starts the command as soon as it is."""


class Command(NamedTuple):
    """What is run: `user` and `group` are numbers. `stdin` is all that it can read."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = ""
    user: int = 0
    group: int = 0
    stdin: bytes = b""


class Session:
    """A command that runs: its websockets, and the control websocket for signals.

    `before` is called when all is ready but the command does not run yet; LXD gives up after some seconds.
    """

    def __init__(
        self, client: LxdClient, instance: str, command: Command, before: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._what = f"{instance}: {command.argv[0] if command.argv else ''}"
        body = {
            "command": list(command.argv),
            "environment": dict(command.env),
            "cwd": command.cwd,
            "user": command.user,
            "group": command.group,
            "interactive": False,
            "wait-for-websocket": True,
        }
        answer = client.request("POST", f"/instances/{instance}/exec", body)
        self.operation = client.operation_of(answer)
        self.sockets: dict[str, websocket.WebSocket] = {}
        try:
            for name, secret in _secrets(answer, self._what, client.endpoint.name).items():
                if name == _LAST:
                    before()
                target = client.url(f"/operations/{self.operation}/websocket", {"secret": secret})
                self.sockets[name] = client.transport.websocket(self._what, target, pieces=True)
        except BaseException:
            self.close()
            client.cancel(self.operation)
            raise

    def signal(self, number: int) -> None:
        """Send the command's first process a signal."""
        with contextlib.suppress(*_websocket_errors()):
            self.sockets["control"].send(json.dumps({"command": "signal", "signal": number}))

    def write(self, data: bytes) -> None:
        """Give the command input."""
        with contextlib.suppress(*_websocket_errors()):
            self.sockets["0"].send_binary(data)

    def end_input(self) -> None:
        """Close its standard input: LXD's protocol says it with an empty text message."""
        with contextlib.suppress(*_websocket_errors()):
            self.sockets["0"].send("")

    def received(self, names: Sequence[str], seconds: float) -> Iterator[tuple[str, bytes | None]]:
        """What has come on these websockets, waiting up to `seconds` for something; None at one's end."""
        waiting = {sock: name for name in names if (sock := self.sockets[name].sock) is not None}
        pending = [sock for sock in waiting if getattr(sock, "pending", int)()]
        for sock in pending or select.select(list(waiting), [], [], seconds)[0]:
            yield waiting[sock], self._frame(self.sockets[waiting[sock]])

    def _frame(self, opened: websocket.WebSocket) -> bytes | None:
        """The next message: data, or None at the end (a closed websocket, or the empty text that LXD ends with)."""
        try:
            # One frame, pings too: who waits for more of one websocket would not hear the others.
            kind, data = opened.recv_data(control_frame=True)
        except _websocket_errors():
            return None
        if kind in (_PING, _PONG):
            return b""
        if kind == _CLOSE or (kind == _TEXT and not data):
            return None
        return data if isinstance(data, bytes) else str(data).encode()

    def exit_status(self) -> int:
        """The command's exit status; 128 + signal when one killed it. Raises LxdError."""
        try:
            state = self._client.wait(self.operation, self._what, Patience(END_SECONDS))
        except LxdError as error:
            return _status_of_failure(error)
        status = (state.get("metadata") or {}).get("return")
        if not isinstance(status, int):
            raise malformed(self._what, self._client.endpoint.name, "a command without an exit status")
        if status < 0:
            raise broken(self._what, self._client.endpoint.name, "the command's process is lost")
        return status

    def close(self) -> None:
        """Close its websockets."""
        for opened in self.sockets.values():
            with contextlib.suppress(*_websocket_errors()):
                close_websocket(opened)


def execute(
    client: LxdClient,
    instance: str,
    command: Command,
    output: Output,
    error: Output,
    patience: Patience = UNBOUNDED,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Run a command to its end, handing on what it writes; returns its exit status. `before`: see Session.

    126 and 127 as a shell has them, where it can't be run and where there is none. A process that it leaves in the
    background keeps its output open: LXD ends that with the command. Raises LxdError (`lxd.timeout`: it was killed),
    KeyboardInterrupt when cancelled (it was killed).
    """
    try:
        session = Session(client, instance, command, before)
    except LxdError as failure:
        return _status_of_failure(failure)
    feeder = threading.Thread(target=_feed, args=(session, command.stdin), daemon=True)
    try:
        feeder.start()
        _attend(session, instance, client, {"1": output, "2": error}, patience)
        return session.exit_status()
    finally:
        session.close()
        feeder.join()


def _feed(session: Session, data: bytes) -> None:
    for start in range(0, len(data), PIECE):
        session.write(data[start : start + PIECE])
    session.end_input()


def _attend(
    session: Session, instance: str, client: LxdClient, outputs: Mapping[str, Output], patience: Patience
) -> None:
    until = time.monotonic() + patience.seconds if patience.seconds else None
    still = [name for name in outputs if name in session.sockets]
    while still:
        if patience.cancelled():
            _kill(session)
            raise KeyboardInterrupt
        if until is not None and time.monotonic() > until:
            _kill(session)
            raise timed_out(f"{instance}: a command", client.endpoint.name, patience.seconds)
        for name, data in session.received(still, LOOK_SECONDS):
            if data is None:
                still.remove(name)
            elif data:
                outputs[name](data)


def _kill(session: Session) -> None:
    session.signal(_KILL)
    with contextlib.suppress(LxdError):
        session.exit_status()


def _secrets(answer: Mapping[str, Any], what: str, server: str) -> dict[str, str]:
    """The websockets' names (0, 1, 2, control) and secrets."""
    outer = answer.get("metadata")
    inner = outer.get("metadata") if isinstance(outer, dict) else None
    found = inner.get("fds") if isinstance(inner, dict) else None
    if not isinstance(found, dict) or "0" not in found or "control" not in found:
        raise malformed(what, server, "a command without websockets")
    # The control websocket is first: the command starts, and may end, as soon as all others are there.
    return {name: str(found[name]) for name in sorted(found, reverse=True)}


def _status_of_failure(error: LxdError) -> int:
    """LXD answers that a command can't be run with an error's text."""
    text = error.message.lower()
    if "command not found" in text or "no such file or directory" in text:
        return 127
    if "not executable" in text or "permission denied" in text:
        return 126
    raise error


def _websocket_errors() -> tuple[type[Exception], ...]:
    import websocket

    return (OSError, websocket.WebSocketException)
