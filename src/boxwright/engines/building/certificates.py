"""TLS to a docker at ``tcp://``: each side shows a certificate ("Protect the Docker daemon socket")."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boxwright.errors import MachineError, UsageError

if TYPE_CHECKING:
    from docker.tls import TLSConfig

FILES = "DOCKER_CERT_PATH: a directory with ca.pem (who vouches for the server), cert.pem and key.pem (this client)"
PORT = 2376
CONNECT_SECONDS = 10.0
_PING = b"GET /_ping HTTP/1.0\r\n\r\n"


def trusted(address: str, directory: str) -> TLSConfig:
    """What docker's client is told, after each side has taken the other's certificate.

    `address` is ``tcp://HOST[:PORT]``. Raises MachineError `engine.certificate`, `engine.unreachable`, UsageError
    `engine.address`.
    """
    from docker.tls import TLSConfig

    authority, certificate, key = (f"{directory}/{name}.pem" for name in ("ca", "cert", "key"))
    for path in (authority, certificate, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise MachineError("engine.certificate", f"{path}: {error.strerror}", hint=FILES) from error
    try:
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise MachineError(
            "engine.certificate", f"a file of {directory} holds nothing of use: {error}", hint=FILES
        ) from error
    _greet(address, context)
    return TLSConfig(client_cert=(certificate, key), ca_cert=authority, verify=True)


def _greet(address: str, context: ssl.SSLContext) -> None:
    """One request, by hand: in TLS 1.3 a server refuses a client only after the handshake.

    The client's library would say that the connection broke off, as if the server were lost.
    """
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise UsageError("engine.address", f"{address} names no machine", hint="tcp://HOST[:PORT]")
    try:
        plain = socket.create_connection((host, port), CONNECT_SECONDS)
    except OSError as error:
        hint = "does it run, and listen there?"
        raise MachineError("engine.unreachable", f"{address}: {error.strerror or error}", hint=hint) from error
    try:
        with plain, context.wrap_socket(plain, server_hostname=host) as wrapped:
            with contextlib.suppress(OSError):  # it may be refused already: what was said about it is read below
                wrapped.sendall(_PING)
            if not wrapped.recv(1):
                raise ConnectionResetError("the server closes the connection")
    except OSError as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
        raise MachineError("engine.certificate", f"{address}: {reason}", hint=FILES) from error
