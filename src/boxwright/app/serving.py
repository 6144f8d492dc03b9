"""A web server for a directory: the standard library's, with kept connections and ranges."""

from __future__ import annotations

import http.server
import os
import re
import socket
from functools import partial
from http import HTTPStatus
from typing import BinaryIO

from boxwright.errors import BoxwrightError

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


def serving(directory: str, address: str, port: int) -> http.server.ThreadingHTTPServer:
    """The server, listening. Raises BoxwrightError `serve.address`."""
    try:
        return _Server((address, port), partial(_Handler, directory=os.path.abspath(directory)))
    except (OSError, OverflowError) as error:
        raise BoxwrightError("serve.address", f"{address}:{port} can't be listened on: {error}") from error


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without looking up the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files, whole or one range of one (RFC 9110, section 14); no listings, nothing hidden, no links out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    _left: int | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing is logged."""

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """Directories are not listed."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def send_head(self) -> BinaryIO | None:
        """The headers; returns the file where its bytes begin."""
        self._left = None
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
        size = os.fstat(file.fileno()).st_size
        match = _RANGE.match(self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        end = min(size, int(match[2]) + 1) if match and match[2] else size
        if match and (start >= size or end <= start):
            file.close()
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return None
        self.send_response(HTTPStatus.PARTIAL_CONTENT if match else HTTPStatus.OK)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        file.seek(start)
        self._left = end - start
        return file

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        """Send what the headers said."""
        left = self._left or 0
        while left > 0 and (data := source.read(min(left, 1 << 18))):
            outputfile.write(data)
            left -= len(data)
