"""HTTP to one registry (RFC 9110, 9112): connections that are kept, TLS with the machine's certificates, proxies.

The standard library's client: what is wanted of it is small, and importing a larger one costs more time than a push of
what changed.
"""

from __future__ import annotations

import errno
import glob
import http.client
import re
import socket
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from boxwright import __version__
from boxwright.files import CHUNK
from boxwright.repositories.registry.failures import malformed, unreachable

BODY_MOST = 8 << 20
"""The largest answer that is read into memory."""

HTTP, HTTPS = "http", "https"
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")
_PORTS = {HTTP: 80, HTTPS: 443}


class Address(NamedTuple):
    """Where a request goes: ``https``, ``registry.example.org:5000``."""

    scheme: str
    host: str


class Body(NamedTuple):
    """What is sent: `open` gives it from its start each time that it is sent; `size` in bytes."""

    open: Callable[[], BinaryIO]
    size: int


class Answer:
    """A server's answer. Its body is read or dropped before the connection serves again."""

    def __init__(self, response: http.client.HTTPResponse, done: Callable[[bool], None]) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._response = response
        self._done = done

    def read1(self, size: int = CHUNK) -> bytes:
        """Some bytes of the body, none at its end."""
        return self._response.read1(size)

    def whole(self, most: int = BODY_MOST) -> bytes:
        """The body, cut at `most` bytes."""
        data = self._response.read(most + 1)
        self.close()
        return data[:most]

    def close(self) -> None:
        """Let go. A connection with an unread rest is closed, for it can't be used again."""
        self._done(self._response.isclosed() or self._response.length == 0)
        self._response.close()


class Transport:
    """Sends requests; safe for threads, each connection is used by one at a time. `timeout` in seconds of silence."""

    def __init__(self, *, timeout: float, verify: Callable[[str], bool], certificates: Sequence[str] = ()) -> None:
        self._timeout = timeout
        self._verify = verify
        self._certificates = certificates
        self._idle: dict[Address, list[http.client.HTTPConnection]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._aborted = False
        self._guard = threading.Lock()
        self.sent = 0

    def close(self) -> None:
        """End all connections that nobody uses."""
        with self._guard:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def abort(self) -> None:
        """Break off what is under way, and all that follows until `resume`: whoever waits for it gets an OSError."""
        with self._guard:
            self._aborted = True
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def resume(self) -> None:
        """Take up work again."""
        self._aborted = False

    def send(
        self,
        method: str,
        address: Address,
        target: str,
        headers: Mapping[str, str],
        body: Body | bytes | None = None,
    ) -> Answer:
        """One request. Raises OSError or HTTPException for what the network does."""
        connection, used_before = self._connection(address)
        try:
            return self._exchange(connection, method, address, target, headers, body)
        except (http.client.BadStatusLine, ConnectionError):
            self._drop(connection)
            if not used_before:
                raise
        except BaseException:
            self._drop(connection)
            raise
        # A connection that was kept may have been closed meanwhile, which says nothing of the server.
        connection = self._connect(address)
        try:
            return self._exchange(connection, method, address, target, headers, body)
        except BaseException:
            self._drop(connection)
            raise

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._release(connection)
        connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        address: Address,
        target: str,
        headers: Mapping[str, str],
        body: Body | bytes | None,
    ) -> Answer:
        size = len(body) if isinstance(body, bytes) else body.size if body else 0
        proxied = address.scheme == HTTP and _proxy(address) is not None
        whole = f"http://{address.host}{target}" if proxied else target
        connection.putrequest(method, whole, skip_accept_encoding=True)
        for name, value in {"User-Agent": f"boxwright/{__version__}", **headers}.items():
            connection.putheader(name, value)
        if body is not None or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(size))
        connection.endheaders()
        try:
            if body is not None:
                self._send_body(connection, body)
        except ConnectionError:
            # A server may answer and close before it has read everything; what it says is better than "broken pipe".
            response = self._early(connection)
            if response is None:
                raise
        else:
            response = connection.getresponse()

        def done(reusable: bool) -> None:  # noqa: FBT001 - called by position
            self._release(connection)
            if reusable and not response.will_close:
                with self._guard:
                    self._idle.setdefault(address, []).append(connection)
            else:
                connection.close()

        return Answer(response, done)

    def _send_body(self, connection: http.client.HTTPConnection, body: Body | bytes) -> None:
        if isinstance(body, bytes):
            connection.send(body)
            self._count(len(body))
            return
        with body.open() as file:
            left = body.size
            while left:
                data = file.read(min(CHUNK, left))
                if not data:
                    raise OSError(f"{left} of {body.size} bytes are missing")
                connection.send(data)
                self._count(len(data))
                left -= len(data)

    def _count(self, sent: int) -> None:
        with self._guard:
            self.sent += sent

    @staticmethod
    def _early(connection: http.client.HTTPConnection) -> http.client.HTTPResponse | None:
        try:
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            return None
        response.will_close = True
        return response

    def _connection(self, address: Address) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with self._guard:
            idle = self._idle.get(address)
            if idle:
                connection = idle.pop()
                self._busy.add(connection)
                return connection, True
        return self._connect(address), False

    def _connect(self, address: Address) -> http.client.HTTPConnection:
        host, port = _split(address)
        proxy = _proxy(address)
        where = _split(Address(HTTP, proxy)) if proxy else (host, port)
        connection: http.client.HTTPConnection
        if address.scheme == HTTPS:
            connection = http.client.HTTPSConnection(*where, timeout=self._timeout, context=self._tls(address.host))
            if proxy:
                connection.set_tunnel(host, port)
        else:
            connection = http.client.HTTPConnection(*where, timeout=self._timeout)
        with self._guard:
            if self._aborted:
                raise ConnectionAbortedError(errno.ECONNABORTED, "broken off")
            self._busy.add(connection)
        try:
            connection.connect()
        except BaseException:
            self._release(connection)
            raise
        return connection

    def _release(self, connection: http.client.HTTPConnection) -> None:
        with self._guard:
            self._busy.discard(connection)

    def _tls(self, host: str) -> ssl.SSLContext:
        """The context for a host, with the certificates of its directory (containers-certs.d(5))."""
        with self._guard:
            if host not in self._contexts:
                self._contexts[host] = self._new_context(host)
            return self._contexts[host]

    def _new_context(self, host: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self._verify(host):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for directory in (f"{place}/{host}" for place in self._certificates):
            for authority in sorted(glob.glob(f"{glob.escape(directory)}/*.crt")):
                context.load_verify_locations(authority)
            for certificate in sorted(glob.glob(f"{glob.escape(directory)}/*.cert")):
                context.load_cert_chain(certificate, f"{certificate.removesuffix('.cert')}.key")
        return context


def certificate_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where docker and podman look for a registry's certificates, as ``DIRECTORY/HOST:PORT/*.crt``."""
    own = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    places = (f"{own}/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
    return tuple(place for place in places if Path(place).is_dir())


def _split(address: Address) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(f"//{address.host}")
    if not parts.hostname:
        raise malformed("an address", address.host, "it names no host")
    return parts.hostname, parts.port or _PORTS[address.scheme]


def _proxy(address: Address) -> str | None:
    """The proxy for an address, as HOST:PORT, from the environment."""
    found = urllib.request.getproxies_environment()
    place = found.get(address.scheme) or found.get("all")
    host = urllib.parse.urlsplit(f"//{address.host}").hostname or ""
    if not place or is_loopback(address.host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.parse.urlsplit(place if "://" in place else f"//{place}").netloc.rpartition("@")[2]


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine's, where Docker takes plain HTTP."""
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    return name in ("localhost", "::1") or _LOOPBACK.fullmatch(name) is not None


def reason_of(error: Exception) -> str:
    """What the network did, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it didn't answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def absolute(address: Address, target: str, location: str) -> tuple[Address, str]:
    """Where a Location header leads, seen from a request (RFC 9110, 10.2.2)."""
    joined = urllib.parse.urljoin(f"{address.scheme}://{address.host}{target}", location)
    parts = urllib.parse.urlsplit(joined)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise malformed("a redirection", address.host, f"{location!r} is no address of a web server")
    if parts.scheme == HTTP and address.scheme == HTTPS:
        raise unreachable("a redirection", address.host, "it leads from HTTPS to plain HTTP")
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return Address(parts.scheme, parts.netloc.rpartition("@")[2]), path + (f"?{query}" if query else "")
