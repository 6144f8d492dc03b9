"""Registries of the tests' own, Debian's docker-registry on a free port; and a proxy before one, which does harm."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.conftest import IN_CI, MARK


@dataclass
class Registry:
    """One that runs: `host` is its name and port, `root` its storage."""

    host: str
    root: Path
    process: subprocess.Popen[bytes] | None = None

    def blobs(self) -> dict[str, int]:
        """The size of each blob it has, by hex digest."""
        return {path.parent.name: path.stat().st_size for path in self.root.glob("docker/registry/v2/blobs/*/*/*/data")}

    def get(self, path: str, accept: str = "application/vnd.oci.image.manifest.v1+json") -> dict[str, object]:
        """A JSON document of it."""
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
            value: dict[str, object] = json.load(answer)
            return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    directory: Path, name: str = "127.0.0.1", *, root: Path | None = None, port: int = 0, **http_options: object
) -> Iterator[Registry]:
    """A registry whose files are in `directory`. `http_options` join its `http` section; `auth` is one of its own."""
    if shutil.which("docker-registry") is None:
        if IN_CI:
            pytest.fail("docker-registry is missing", pytrace=False)
        pytest.skip("docker-registry is missing; `make engines` installs it")
    storage = root or directory / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    auth = http_options.pop("auth", None)
    configuration = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", **http_options},
        **({"auth": auth} if auth else {}),
    }
    (directory / "registry.yml").write_text(yaml.safe_dump(configuration))
    environment = {key: value for key, value in os.environ.items() if key != MARK}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", directory / "registry.yml"], stdout=log, stderr=log, env=environment
        )
    try:
        deadline = time.monotonic() + 20
        while not _answers(port):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Registry(f"{name}:{port}", storage, process)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


Harm = Callable[[str, str, int], str]
"""What to do to a request, given its method, path and number among those of this method: see `FaultProxy`."""


@dataclass
class FaultProxy:
    """Before a registry; what it does to a request is what `harm` says.

    "" (pass on), a status ("500", "429"), "reset" (after some of the request was read), "stall", "cut" (half of the
    answer), "flip" (another byte in it), "lie" (a length that is too large), "endless", a path (what is there instead),
    "unseen" (a manifest's blob is unknown).
    """

    registry: Registry
    harm: Harm = lambda *_: ""
    host: str = ""
    seen: list[str] = field(default_factory=list)
    sent: int = 0

    def count(self, method: str, part: str) -> int:
        return sum(line.startswith(f"{method} ") and part in line for line in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""

    def serve(self) -> None:
        proxy = self.server.proxy
        proxy.seen.append(f"{self.command} {self.path}")
        harm = proxy.harm(self.command, self.path, proxy.count(self.command, "/"))
        size = int(self.headers.get("Content-Length") or 0)
        if harm == "reset":
            self.rfile.read(min(size, 1000))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            self.close_connection = True
        elif harm == "stall":
            self.server.stop.wait(30)
            self.close_connection = True
        elif harm.isdecimal():
            self.rfile.read(size)
            self.refuse(int(harm))
        elif harm == "unseen":
            self.rfile.read(size)
            self.refuse(404, "MANIFEST_BLOB_UNKNOWN")
        else:
            self.pass_on(self.rfile.read(size), harm)

    def refuse(self, status: int, code: str = "UNKNOWN") -> None:
        text = b'{"errors":[{"code":"%s","message":"trouble"}]}' % code.encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def pass_on(self, body: bytes, harm: str) -> None:
        answer, data = self.asked(body, harm if harm.startswith("/") else "")
        self.close_connection = harm in ("lie", "endless", "cut")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        said = answer.getheader("Content-Length") or "0" if self.command == "HEAD" else str(len(data))
        if harm != "endless":
            self.send_header("Content-Length", str(len(data) + 1000) if harm == "lie" else said)
        self.end_headers()
        if harm == "flip" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if harm == "cut":
            data = data[: len(data) // 2]
        self.server.proxy.sent += len(data)
        self.wfile.write(data)
        for _ in range(64 if harm == "endless" else 0):
            self.wfile.write(bytes(1 << 16))

    def asked(self, body: bytes, other: str = "") -> tuple[http.client.HTTPResponse, bytes]:
        """What the registry answers."""
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        with closing(http.client.HTTPConnection(self.server.proxy.registry.host, timeout=30)) as connection:
            connection.request(self.command, other or self.path, body or None, headers)
            answer = connection.getresponse()
            return answer, answer.read()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815 - the library's names


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self.stop = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that are torn are what this is for."""


@contextmanager
def proxied(registry: Registry) -> Iterator[FaultProxy]:
    proxy = FaultProxy(registry)
    server = _Server(proxy)
    proxy.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
