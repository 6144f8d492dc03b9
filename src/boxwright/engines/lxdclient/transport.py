"""Connections to one server: HTTP/1.1 over its unix socket or TLS, kept between requests, and websockets."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from boxwright.engines.lxdclient.address import Endpoint
from boxwright.engines.lxdclient.failures import broken, malformed, timed_out, unreachable, wrong_certificate

if TYPE_CHECKING:
    import websocket

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""How often a wait looks whether it was cancelled."""
KEPT_MOST = 8
PIECE = 1 << 18


class Readable(Protocol):
    """A file whose bytes are sent."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes."""
        ...


Body = bytes | Readable | Iterable[bytes] | None


class Patience(NamedTuple):
    """How long to wait for an answer: `seconds` (0: for ever), unless `cancelled` says that nobody wants it."""

    seconds: float = 0.0
    cancelled: Callable[[], bool] = lambda: False


UNBOUNDED = Patience()


class Connection(http.client.HTTPConnection):
    """One connection to the endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__("lxd" if endpoint.socket else endpoint.host, endpoint.port)
        self._endpoint = endpoint

    def connect(self) -> None:
        """Connect. Raises LxdUnreachableError."""
        self.sock = open_socket(self._endpoint)

    def is_stale(self) -> bool:
        """Whether the server has closed it, or said something that nobody asked for."""
        if self.sock is None:
            return True
        return bool(select.select([self.sock], [], [], 0)[0])


class Transport:
    """The connections of one endpoint; several threads may use it at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def ask(
        self, what: str, method: str, target: str, body: Body, headers: Mapping[str, str], patience: Patience
    ) -> tuple[http.client.HTTPResponse, Connection]:
        """Send a request and wait until the answer begins; who reads it gives the connection back.

        Raises LxdError `lxd.unreachable`, `lxd.broken`, `lxd.timeout`, and KeyboardInterrupt when cancelled.
        """
        connection = self._take()
        try:
            # A server that refuses a large body answers before it has read it all, and closes.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # http.client frames what it doesn't know the length of itself (chunked).
                connection.request(method, target, body=body, headers=dict(headers))
            _await_answer(connection.sock, what, self.endpoint.name, patience)
            return connection.getresponse(), connection
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise broken(what, self.endpoint.name, str(error) or type(error).__name__) from error
        except BaseException:
            connection.close()
            raise

    def read(self, what: str, response: http.client.HTTPResponse, connection: Connection, most: int) -> bytes:
        """The whole answer, of at most `most` bytes; the connection is kept."""
        try:
            data = response.read(most + 1)
            left = response.length
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise broken(what, self.endpoint.name, str(error) or type(error).__name__) from error
        except BaseException:
            connection.close()
            raise
        self.give_back(response, connection)
        if left and len(data) <= most:
            raise broken(what, self.endpoint.name, "the answer breaks off")
        if len(data) > most:
            raise malformed(what, self.endpoint.name, f"the answer is longer than {most} bytes")
        return data

    def pieces(self, what: str, response: http.client.HTTPResponse, connection: Connection) -> Iterable[bytes]:
        """The answer's bytes as they come."""
        try:
            while piece := response.read1(PIECE):
                yield piece
            if response.length:
                raise broken(what, self.endpoint.name, "the answer breaks off")
        except (http.client.HTTPException, OSError) as error:
            raise broken(what, self.endpoint.name, str(error) or type(error).__name__) from error
        finally:
            self.give_back(response, connection)

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self.endpoint)
            if not connection.is_stale():
                return connection
            connection.close()

    def give_back(self, response: http.client.HTTPResponse, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end; close another."""
        whole = response.isclosed() and connection.sock is not None
        with self._lock:
            if whole and len(self._idle) < KEPT_MOST:
                self._idle.append(connection)
                return
        response.close()
        connection.close()

    def websocket(self, what: str, target: str, *, pieces: bool = False) -> websocket.WebSocket:
        """A websocket, which gives whole messages, or pieces of them as they come. Raises LxdError."""
        import websocket as library

        scheme, host = ("ws", "lxd") if self.endpoint.socket else ("wss", self.endpoint.host)
        sock = open_socket(self.endpoint)
        try:
            opened = _tolerant()(fire_cont_frame=pieces, enable_multithread=True)
            opened.connect(  # type: ignore[no-untyped-call]
                f"{scheme}://{host}{target}", socket=sock, suppress_origin=True
            )
        except (library.WebSocketException, OSError) as error:
            sock.close()
            raise broken(what, self.endpoint.name, str(error)) from error
        except BaseException:
            sock.close()
            raise
        opened.settimeout(None)
        return opened

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _tolerant() -> type[websocket.WebSocket]:
    """A websocket whose answer to a ping may come too late: what the server sent before it ended is still read."""
    import websocket as library

    class Tolerant(library.WebSocket):
        def pong(self, payload: str | bytes = "") -> None:
            with contextlib.suppress(OSError, library.WebSocketException):
                super().pong(payload)

    return Tolerant


def close_websocket(opened: websocket.WebSocket) -> None:
    """Close its connection, without the ceremony."""
    opened.shutdown()  # type: ignore[no-untyped-call]


def open_socket(endpoint: Endpoint) -> socket.socket:
    """Connect to the server. Raises LxdUnreachableError."""
    if not endpoint.socket:
        return _open_tls(endpoint)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(CONNECT_SECONDS)
        opened.connect(endpoint.socket)
        opened.settimeout(None)
    except OSError as error:
        opened.close()
        raise unreachable(endpoint.name, f"{endpoint.socket}: {error.strerror or error}") from error
    return opened


def _open_tls(endpoint: Endpoint) -> ssl.SSLSocket:
    context = _tls_context(endpoint)
    where = f"{endpoint.host}:{endpoint.port}"
    plain = None
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), CONNECT_SECONDS)
        wrapped = context.wrap_socket(plain, server_hostname=endpoint.host)
        wrapped.settimeout(None)
    except ssl.SSLError as error:
        if plain is not None:
            plain.close()
        raise wrong_certificate(endpoint.name, f"{where}: {error.reason or error}") from error
    except OSError as error:
        if plain is not None:
            plain.close()
        raise unreachable(endpoint.name, f"{where}: {error.strerror or error}") from error
    return wrapped


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """LXD's certificate is its own: the one that is pinned is what it must show, whatever names it holds."""
    hint = "'lxc remote add' makes a certificate for this user, and keeps the server's"
    for path in filter(None, (endpoint.certificate, endpoint.key, endpoint.server_certificate)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise wrong_certificate(endpoint.name, f"{path}: {error.strerror}", hint) from error
    try:
        context = ssl.create_default_context()
        if endpoint.server_certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(endpoint.server_certificate)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if endpoint.certificate:
            context.load_cert_chain(endpoint.certificate, endpoint.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (endpoint.certificate, endpoint.key, endpoint.server_certificate)))
        raise wrong_certificate(endpoint.name, f"one of {files} holds nothing of use: {error}", hint) from error
    return context


def _await_answer(sock: socket.socket | None, what: str, server: str, patience: Patience) -> None:
    until = time.monotonic() + patience.seconds if patience.seconds else None
    if sock is None:
        raise broken(what, server, "the connection ended")
    while not select.select([sock], [], [], LOOK_SECONDS)[0]:
        if patience.cancelled():
            raise KeyboardInterrupt
        if until is not None and time.monotonic() > until:
            raise timed_out(what, server, patience.seconds)
