"""A repository in a directory, served by a web server that counts and, when told to, misbehaves."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from boxwright.model.digest import Digest, digest_of
from boxwright.repositories.binary.catalog import Catalog
from boxwright.repositories.binary.directory import DirectoryPlace
from boxwright.repositories.binary.keys import PrivateKey, PublicKey, Trust, make_private_key
from boxwright.repositories.binary.packages import BinaryPackages, Published
from boxwright.repositories.binary.packing import packed
from boxwright.repositories.binary.place import Place, Source
from boxwright.repositories.binary.web import WebPlace

Fault = Callable[["Handler", bytes], bool]
"""Answers in its own way, or says no by returning False. It is given the bytes that belong to the answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def __init__(self, directory: Path, *arguments: object) -> None:
        self.directory = directory
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        try:
            data = (self.directory / self.path.lstrip("/")).read_bytes()
        except OSError:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        for part, fault in self.server.faults.items():
            if part in self.path and fault(self, data):
                return
        self.answer(data)

    def answer(self, data: bytes) -> None:
        asked = self.headers.get("Range", "")
        start, _, end = asked.removeprefix("bytes=").partition("-")
        self.send_response(206 if asked else 200)
        if asked:
            whole = len(data)
            data = data[int(start) : int(end) + 1 if end else None]
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(data) - 1}/{whole}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory))
        self.requests: list[str] = []
        self.faults: dict[str, Fault] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *arguments: object) -> None:
        """A client that went away is none."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "repository").mkdir()
    found = Server(tmp_path / "repository")
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


class Memory:
    """What a client remembers."""

    def __init__(self) -> None:
        self.pins: dict[str, str] = {}

    def pin(self, name: str) -> str | None:
        return self.pins.get(name)

    def keep_pin(self, name: str, value: str) -> None:
        self.pins[name] = value


class Host:
    """A repository, the key of who publishes, and clients of it."""

    def __init__(self, place: Path, work: Path, address: str) -> None:
        self.directory = place
        self.place: Place = DirectoryPlace(str(place))
        self.work = work
        self.address = address
        self.key = make_private_key(str(work / "key.pem"))

    # What somebody does who can write there, past all rules.

    def bytes_of(self, name: str) -> bytes:
        """What lies under a name."""
        return (self.directory / name).read_bytes()

    def overwrite(self, name: str, data: bytes) -> None:
        """Put other bytes in the place of an object."""
        assert (self.directory / name).exists()
        (self.directory / name).write_bytes(data)

    def copy(self, name: str, target: str) -> None:
        """Put an object under another name too."""
        shutil.copy(self.directory / name, self.directory / target)

    def remove(self, prefix: str) -> None:
        """Remove all objects below a prefix, or the one of this name."""
        for name in [name for name in self.objects() if name.startswith(prefix)]:
            (self.directory / name).unlink()

    def objects(self) -> dict[str, bytes]:
        """Everything that is there."""
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in files}

    def source(self, time_limit: float) -> Source:
        """The repository as a client reads it."""
        return WebPlace(self.address, time_limit)

    def client(
        self,
        *,
        keys: list[PublicKey] | None = None,
        revoked: list[str] | None = None,
        memory: Memory | None = None,
        near: bool = False,
        time_limit: float = 1.0,
    ) -> Catalog:
        trusted = [self.key.public] if keys is None else keys
        source: Source = self.place if near else self.source(time_limit)
        cache = str(self.work / f"cache-{os.urandom(4).hex()}")
        return Catalog("host", source, Trust(trusted, revoked or ()), memory or Memory(), cache)

    def packages(self, **options: object) -> BinaryPackages:
        return BinaryPackages(self.client(**options))  # type: ignore[arg-type]

    def publish(self, *names: str, key: PrivateKey | None = None, content: str = "", when: int = 0) -> list[str]:
        """Publish packages of these names; what they hold follows from the name and `content`."""
        what = [self.package(name, content) for name in names]
        publisher = BinaryPackages(self.client(near=True, keys=[self.key.public, *([key.public] if key else [])]))
        return publisher.publish(self.place, key or self.key, what, [], when or int(time.time()))

    def package(self, name: str, content: str = "") -> Published:
        tar = f"the tar of {name} {content}".encode() * 50
        archive = self.work / f"{name}{content}.tar.zst"
        if not archive.exists():
            part = self.work / f"{os.urandom(6).hex()}"
            part.write_bytes(packed(tar))
            part.rename(archive)
        record = {
            "name": f"demo/{name}-1",
            "platform": "linux/amd64",
            "definition": definition(name),
            "key": digest_of(f"key {name}".encode()),
            "archive": digest_of(tar),
            "content": digest_of(f"tree {name} {content}".encode()),
            "dependencies": {},
            "toolchain": digest_of(b"toolchain"),
            "files": [],
        }
        return Published(record, str(archive), len(tar), (definition(name),))


def definition(name: str) -> Digest:
    return digest_of(f"definition {name}".encode())


@pytest.fixture
def host(tmp_path: Path, server: Server) -> Host:
    return Host(tmp_path / "repository", tmp_path, server.address)
