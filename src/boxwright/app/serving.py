"""A web server for a directory: the standard library's, with kept connections, ranges, and a say in who may read."""

from __future__ import annotations

import hmac
import http.server
import os
import re
import socket
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    import ipaddress
    import ssl

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    Client = tuple[str, int] | tuple[str, int, int, int]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
SHORTEST_TOKEN = 8
MOST_THREADS = 500
"""Connections at a time, each with a thread that waits at most a minute for its client."""


class Access(NamedTuple):
    """Who may read: all clients without a `token` and `networks`, else those of the networks that send the token.

    `certificate` and `key` are PEM files for TLS; they are read again when they are replaced. `log` is told of each
    request: the client's address, the request's first line, the status.
    """

    token: str = ""
    networks: tuple[Network, ...] = ()
    certificate: str = ""
    key: str = ""
    log: Callable[[str, str, str], None] | None = None


def parse_networks(given: list[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses. Raises UsageError `serve.network`."""
    import ipaddress

    try:
        return tuple(ipaddress.ip_network(text) for text in given)
    except ValueError as error:
        raise UsageError("serve.network", f"{error}", hint="--allow 10.0.0.0/8") from error


def read_token(path: str) -> str:
    """The token in the first line of a file. Raises UsageError `serve.token`."""
    try:
        with open(path, encoding="utf-8") as file:
            return check_token(file.readline().strip(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("serve.token", f"the token can't be read from {path}: {error}") from error


def check_token(token: str, where: str) -> str:
    """`token`, which can be sent in a header and is not guessed at once. Raises UsageError `serve.token`."""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        message = f"{where} holds no token: at least {SHORTEST_TOKEN} letters, digits and signs of ASCII"
        raise UsageError("serve.token", message, hint="openssl rand -hex 32")
    return token


def serving(directory: str, address: str, port: int, access: Access | None = None) -> http.server.ThreadingHTTPServer:
    """The server, listening. Raises BoxwrightError `serve.address`, `serve.tls`."""
    given = access or Access()
    certificate = _Certificate(given.certificate, given.key) if given.certificate else None
    handler = partial(_Handler, directory=os.path.abspath(directory), access=given)
    kind = _Server6 if ":" in address else _Server
    try:
        server = kind((address, port), handler)
    except (OSError, OverflowError) as error:
        raise BoxwrightError("serve.address", f"{address}:{port} can't be listened on: {error}") from error
    server.certificate = certificate
    return server


class _Certificate:
    """A TLS server's certificate, read again when its files are replaced (they are, every few months)."""

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (certificate, key or certificate)
        self._seen = self._look()
        self._context = self._load()

    def _look(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((it.st_mtime_ns, it.st_ino) for it in map(os.stat, self._files))
        except OSError as error:
            raise BoxwrightError("serve.tls", f"{error.filename} can't be read: {error.strerror}") from error

    def _load(self) -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(*self._files, password="")
        except (OSError, ValueError) as error:
            message = f"{' and '.join(sorted(set(self._files)))} are no certificate with its key: {error}"
            raise BoxwrightError("serve.tls", message, hint="PEM files, the key without a passphrase") from error
        return context

    def around(self, connection: socket.socket) -> socket.socket:
        """TLS on a connection; the handshake is the connection's own thread's, since it may take its time."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._context, self._seen = self._load(), seen
        except BoxwrightError:
            pass  # half replaced: the one before serves on
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    certificate: _Certificate | None = None

    def server_bind(self) -> None:
        """Without looking up the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Client]:
        """The next connection."""
        connection, client = self.socket.accept()
        return (connection if self.certificate is None else self.certificate.around(connection)), client

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether there is a thread for one more; who waits is told nothing, and tries again."""
        del request, client_address
        return threading.active_count() <= MOST_THREADS

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, or that speaks no TLS, is none of our mistakes."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files, whole or one range of one (RFC 9110, section 14); no listings, nothing hidden, no links out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    _left: int | None = None

    def __init__(
        self, request: socket.socket, client: Client, server: _Server, *, directory: str, access: Access
    ) -> None:
        self._access = access
        super().__init__(request, client, server, directory=directory)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing is logged but requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Tell of a request that is answered."""
        del size
        if self._access.log is not None:
            self._access.log(str(self.client_address[0]), self.requestline, str(int(code)))

    def version_string(self) -> str:
        """What the Server header says."""
        return "boxwright"

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """Directories are not listed."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def send_head(self) -> BinaryIO | None:
        """The headers; returns the file where its bytes begin."""
        self._left = None
        if not self._may_read():
            return None
        path = self.translate_path(self.path)
        inside = os.path.realpath(path)
        if "/." in self.path or not f"{inside}/".startswith(f"{os.path.realpath(self.directory)}/"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        try:
            file = open(inside, "rb")  # noqa: SIM115 - the library closes it
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        status = os.fstat(file.fileno())
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
        span = self._span(status.st_size, tag)
        if span is None:
            file.close()
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return None
        start, end, partial_content = span
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial_content else HTTPStatus.OK)
        if partial_content:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{status.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        file.seek(start)
        self._left = end - start
        return file

    def _may_read(self) -> bool:
        """Whether this client may; else it has its answer."""
        access = self._access
        if access.networks and not self._is_allowed():
            self.send_error(HTTPStatus.FORBIDDEN)
            return False
        given = self.headers.get("Authorization", "")
        if access.token and not hmac.compare_digest(given.encode(), f"Bearer {access.token}".encode()):
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True

    def _is_allowed(self) -> bool:
        import ipaddress

        address = ipaddress.ip_address(str(self.client_address[0]).partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._access.networks)

    def _span(self, size: int, tag: str) -> tuple[int, int, bool] | None:
        """The bytes that are wanted, and whether as a part; None where there are none. A changed file is sent whole."""
        match = _RANGE.match(self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", tag) != tag:
            return 0, size, False
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        return None if start >= size or end <= start else (start, end, True)

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        """Send what the headers said."""
        left = self._left or 0
        while left > 0 and (data := source.read(min(left, 1 << 18))):
            outputfile.write(data)
            left -= len(data)
