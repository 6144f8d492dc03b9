"""The client against a server that answers as LXD does, or as no server should. Real ones: tests/integration."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from boxwright.engines.lxdclient.address import Endpoint, find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.execution import Command, execute
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import pull_file, push_file
from boxwright.engines.lxdclient.images import import_image
from boxwright.engines.lxdclient.transport import Patience
from boxwright.errors import BoxwrightError

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.server.seen.append((self.command, self.path, body))
        self.server.replies[f"{self.command} {self.path.partition('?')[0]}"](self)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - as http.server wants them

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    replies: dict[str, Reply]
    seen: list[tuple[str, str, bytes]]


def say(status: int = 200, /, **content: Any) -> Reply:
    return lambda handler: handler.say(status, json.dumps(content).encode())


def raw(status: int, data: bytes, **headers: str) -> Reply:
    return lambda handler: handler.say(status, data, **headers)


STARTED = say(202, type="async", operation="/1.0/operations/abc?project=p")


def operation(code: int = 200, err: str = "", **metadata: Any) -> Reply:
    return say(type="sync", metadata={"status_code": code, "err": err, "metadata": metadata})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(str(tmp_path / "socket"), Handler) as made:
        made.replies, made.seen = {}, []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LxdClient]:
    with LxdClient(Endpoint("test", socket=str(tmp_path / "socket")), project="p") as made:
        yield made


def test_a_change_waits_for_its_operation(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/instances"] = STARTED
    server.replies["GET /1.0/operations/abc/wait"] = operation(answer="42")
    state = client.run("POST", "/instances", {"name": "a"}, query={"target": "node2"})
    assert state["metadata"] == {"answer": "42"}
    assert server.seen == [
        ("POST", "/1.0/instances?project=p&target=node2", b'{"name": "a"}'),
        ("GET", "/1.0/operations/abc/wait?project=p", b""),
    ]


def test_a_change_without_an_operation(server: Server, client: LxdClient) -> None:
    server.replies["PUT /1.0/networks/a%20b"] = say(type="sync", metadata=None)
    assert client.run("PUT", "/networks/a b", {}) == {}


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (404, "Instance not found", "lxd.not-found"),
        (409, "", "lxd.exists"),
        (400, 'Instance "x" already exists', "lxd.exists"),
        (403, "not authorized", "lxd.denied"),
        (412, "ETag doesn't match", "lxd.changed"),
        (503, "LXD is shutting down", "lxd.unavailable"),
        (500, "write x: no space left on device", "lxd.no-space"),
        (400, "Invalid devices", "lxd.refused"),
    ],
)
def test_refusals(server: Server, client: LxdClient, status: int, text: str, code: str) -> None:
    server.replies["GET /1.0/x"] = say(status, type="error", error=text, error_code=status)
    with pytest.raises(LxdError) as caught:
        client.get("/x")
    assert (caught.value.code, caught.value.status) == (code, status)


def test_what_is_not_there_can_be_asked_for(server: Server, client: LxdClient) -> None:
    server.replies["GET /1.0/x"] = say(404, type="error", error="not found", error_code=404)
    assert client.find("/x") is None


def test_an_operation_that_fails(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/x"] = STARTED
    server.replies["GET /1.0/operations/abc/wait"] = operation(400, "Create instance: quota exceeded")
    with pytest.raises(LxdError) as caught:
        client.run("POST", "/x")
    assert caught.value.code == "lxd.no-space"


def test_who_cancels_cancels_the_operation(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/x"] = STARTED
    server.replies["GET /1.0/operations/abc/wait"] = lambda _: time.sleep(1)
    server.replies["DELETE /1.0/operations/abc"] = say(type="sync")
    with pytest.raises(KeyboardInterrupt):
        client.run("POST", "/x", patience=Patience(cancelled=lambda: True))
    assert server.seen[-1][:2] == ("DELETE", "/1.0/operations/abc?project=p")


def test_who_is_late_is_cancelled(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/x"] = STARTED
    server.replies["GET /1.0/operations/abc/wait"] = lambda _: time.sleep(1)
    server.replies["DELETE /1.0/operations/abc"] = say(403, type="error", error="can't be cancelled")
    with pytest.raises(LxdError) as caught:
        client.run("POST", "/x", patience=Patience(0.05))
    assert caught.value.code == "lxd.timeout"
    assert server.seen[-1][0] == "DELETE"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html>", "lxd.bad-answer"),
        (b"[1]", "lxd.bad-answer"),
        (b"[" * 100_000, "lxd.bad-answer"),
        (b"\xff\xfe", "lxd.bad-answer"),
        (b'{"type": "async"}', "lxd.bad-answer"),
        (b'{"type": "async", "operation": {}}', "lxd.bad-answer"),
    ],
)
def test_answers_that_make_no_sense(server: Server, client: LxdClient, data: bytes, code: str) -> None:
    server.replies["POST /1.0/x"] = raw(200, data)
    with pytest.raises(LxdError) as caught:
        client.run("POST", "/x")
    assert caught.value.code == code


def test_a_connection_that_breaks(server: Server, client: LxdClient) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    server.replies["GET /1.0/x"] = cut
    with pytest.raises(LxdError) as caught:
        client.get("/x")
    assert caught.value.code == "lxd.broken"


def test_a_connection_that_the_server_closed_is_made_again(server: Server, client: LxdClient) -> None:
    def once(handler: Handler) -> None:
        handler.say(200, b'{"type": "sync", "metadata": 1}')
        handler.close_connection = True  # without saying so

    server.replies["GET /1.0/x"] = once
    assert client.get("/x") == 1
    time.sleep(0.05)
    assert client.get("/x") == 1


def test_nobody_there(tmp_path: Path) -> None:
    for endpoint in (Endpoint("a", socket=str(tmp_path / "none")), Endpoint("b", host="127.0.0.1", port=1)):
        with pytest.raises(LxdError) as caught:
            LxdClient(endpoint).get("")
        assert (caught.value.code, caught.value.exit_status) == ("lxd.unreachable", 3)


def test_a_file_comes_with_its_attributes(server: Server, client: LxdClient) -> None:
    attributes = {"X_LXD_uid": "5", "X_LXD_gid": "6", "X_LXD_mode": "0640", "X_LXD_type": "file"}
    server.replies["GET /1.0/instances/i/files"] = raw(200, b"content", **attributes)
    server.replies["POST /1.0/instances/i/files"] = say(type="sync")
    got = bytearray()
    assert pull_file(client, "i", "/a b", got.extend) == ("file", 5, 6, 0o640)
    assert got == b"content"
    push_file(client, "i", "/a b", iter([b"con", b"tent"]))
    assert server.seen[-1] == ("POST", "/1.0/instances/i/files?project=p&path=%2Fa+b", b"content")


def test_a_file_without_attributes_is_none(server: Server, client: LxdClient) -> None:
    server.replies["GET /1.0/instances/i/files"] = raw(200, b"x")
    with pytest.raises(LxdError) as caught:
        pull_file(client, "i", "/a", lambda _: None)
    assert caught.value.code == "lxd.bad-answer"


def test_an_image_that_is_there(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/images"] = STARTED
    server.replies["GET /1.0/operations/abc/wait"] = operation(400, "Image with same fingerprint already exists")
    with pytest.raises(LxdError) as caught:
        import_image(client, iter([b"tar"]))
    assert caught.value.code == "lxd.exists"


def test_a_command_without_websockets(server: Server, client: LxdClient) -> None:
    server.replies["POST /1.0/instances/i/exec"] = say(202, type="async", operation="/1.0/operations/abc", metadata={})
    server.replies["DELETE /1.0/operations/abc"] = say(type="sync")
    with pytest.raises(LxdError) as caught:
        execute(client, "i", Command(("true",), {}), print, print)
    assert caught.value.code == "lxd.bad-answer"


def test_a_websocket_that_is_refused(server: Server, client: LxdClient) -> None:
    fds = {"fds": {"0": "a", "control": "b"}}
    started = say(202, type="async", operation="/1.0/operations/abc", metadata={"metadata": fds})
    server.replies["POST /1.0/instances/i/exec"] = started
    server.replies["GET /1.0/operations/abc/websocket"] = say(403, type="error", error="no")
    server.replies["DELETE /1.0/operations/abc"] = say(type="sync")
    with pytest.raises(LxdError) as caught:
        execute(client, "i", Command(("true",), {}), print, print)
    assert caught.value.code == "lxd.broken"
    assert server.seen[-1][0] == "DELETE"


# Addresses -----------------------------------------------------------------------------------------------------------

CONFIG = """
remotes:
  prod: {addr: "https://10.0.0.1:8443", protocol: lxd, project: web}
  here: {addr: "unix://"}
  images: {addr: "https://images.example.org", protocol: simplestreams}
  odd: {addr: "ftp://x"}
"""


def test_remotes_are_those_of_the_lxc_client(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "servercerts").mkdir()
    (tmp_path / "servercerts/prod.crt").write_text("x")
    environment = {"LXD_CONF": str(tmp_path), "LXD_DIR": "/lxd"}
    prod = find_endpoint("prod", environment)
    assert (prod.host, prod.port, prod.project) == ("10.0.0.1", 8443, "web")
    assert prod.server_certificate == f"{tmp_path}/servercerts/prod.crt"
    assert find_endpoint("", environment).socket == "/lxd/unix.socket"
    assert find_endpoint("here", environment).socket == "/lxd/unix.socket"
    assert find_endpoint("unix:/x/y", environment).socket == "/x/y"
    assert find_endpoint("https://h", environment)[2:4] == ("h", 8443)


@pytest.mark.parametrize("name", ["nobody", "images", "odd", "https://", "https://h:x"])
def test_remotes_that_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yml").write_text(CONFIG)
    with pytest.raises(BoxwrightError) as caught:
        find_endpoint(name, {"LXD_CONF": str(tmp_path)})
    assert caught.value.code == "lxd.remote"


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("remotes: [")
    with pytest.raises(BoxwrightError) as caught:
        find_endpoint("prod", {"LXD_CONF": str(tmp_path)})
    assert caught.value.code == "lxd.remote"
