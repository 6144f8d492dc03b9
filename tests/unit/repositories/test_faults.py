"""Servers that misbehave: each fetch ends with the right bytes or a clear error, soon, and nothing half is left."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.place import Upload, whole
from boxwright.repositories.binary.web import WebPlace
from boxwright.repositories.ports import Wanted
from tests.unit.repositories.conftest import Fault, Handler, Host, Server, definition

DATA = bytes(range(256)) * 4000


def headers(handler: Handler, length: int, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def says_500(handler: Handler, _: bytes) -> bool:
    headers(handler, 0, 500)
    return True


def stalls(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data))
    handler.wfile.write(data[: len(data) // 2])
    handler.wfile.flush()
    time.sleep(1.5)
    handler.close_connection = True
    return True


def resets(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data))
    handler.wfile.write(data[: len(data) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
    return True


def says_too_much(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data) + 1000)
    handler.wfile.write(data)
    handler.close_connection = True
    return True


def says_too_little(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data) - 10)
    handler.wfile.write(data[:-10])
    return True


def never_ends(handler: Handler, _: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        handler.close_connection = True
    return True


def drips(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data))
    try:
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True
    return True


def is_another(handler: Handler, data: bytes) -> bool:
    handler.answer(b"another object"[: len(data)].ljust(len(data)))
    return True


def goes_in_circles(handler: Handler, _: bytes) -> bool:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


FAULTS = [
    (says_500, {"repository.status"}),
    (stalls, {"repository.stalled"}),
    (resets, {"repository.unreachable"}),
    (says_too_much, {"repository.unreachable"}),
    (says_too_little, {"repository.truncated"}),
    (never_ends, {"repository.too-long"}),
    (drips, {"repository.slow", "repository.stalled"}),
    (is_another, {"repository.altered"}),
    (goes_in_circles, {"repository.unreachable", "repository.status"}),
]


def fetch(host: Host, tmp_path: Path, time_limit: float = 0.5) -> str:
    client = host.packages(time_limit=time_limit)
    (offer,) = client.find([Wanted(definition("p"))]).values()
    target = tmp_path / "fetched"
    try:
        client.fetch(offer, str(target), lambda: False)
    except BoxwrightError as error:
        assert not target.exists()
        return error.code
    finally:
        client.close()
    assert target.read_bytes() == (tmp_path / "p.tar.zst").read_bytes()
    target.unlink()
    return ""


@pytest.mark.parametrize(("fault", "codes"), FAULTS, ids=lambda it: getattr(it, "__name__", ""))
def test_a_server_that_always_misbehaves_gives_a_clear_error(
    host: Host, server: Server, tmp_path: Path, fault: Fault, codes: set[str]
) -> None:
    host.publish("p")
    server.faults["/blobs/"] = fault
    started = time.monotonic()
    assert fetch(host, tmp_path) in codes
    assert time.monotonic() - started < 8
    server.faults.clear()
    assert fetch(host, tmp_path) == ""


def once(fault: Fault) -> Fault:
    """The fault at the first request of each object."""
    seen: set[str] = set()

    def faulty(handler: Handler, data: bytes) -> bool:
        if handler.path in seen:
            return False
        seen.add(handler.path)
        return fault(handler, data)

    return faulty


@pytest.mark.parametrize("fault", [says_500, resets, says_too_much], ids=lambda it: it.__name__)
def test_what_happens_once_is_tried_again(host: Host, server: Server, tmp_path: Path, fault: Fault) -> None:
    host.publish("p")
    server.faults["/"] = once(fault)
    assert fetch(host, tmp_path, 5.0) == ""


@pytest.mark.parametrize("cut", [1, 1000, len(DATA) // 2, len(DATA) - 1])
@pytest.mark.parametrize("start", [0, 77])
def test_a_transfer_goes_on_where_it_broke(host: Host, server: Server, cut: int, start: int) -> None:
    host.place.put([Upload("object", DATA)])

    def breaks(handler: Handler, data: bytes) -> bool:
        asked = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        left = data[int(asked[0]) :]
        headers_for(handler, left, int(asked[0]), len(data))
        handler.wfile.write(left[:cut])
        handler.close_connection = True
        return True

    server.faults["object"] = once(breaks)
    place = WebPlace(server.address, 2.0)
    assert b"".join(place.read("object", start)) == DATA[start:]
    place.close()


def headers_for(handler: Handler, data: bytes, start: int, whole_size: int) -> None:
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{whole_size - 1}/{whole_size}")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()


def ignores_ranges(handler: Handler, data: bytes) -> bool:
    headers(handler, len(data))
    handler.wfile.write(data)
    return True


def sends_another_range(handler: Handler, data: bytes) -> bool:
    headers_for(handler, data[5:], 5, len(data))
    handler.wfile.write(data[5:])
    return True


@pytest.mark.parametrize(("start", "size"), [(0, 10), (1000, None), (1000, 5), (len(DATA) - 3, 3)])
def test_ranges_are_cut_where_a_server_sends_everything(
    host: Host, server: Server, start: int, size: int | None
) -> None:
    host.place.put([Upload("object", DATA)])
    expected = DATA[start:] if size is None else DATA[start : start + size]
    place = WebPlace(server.address, 2.0)
    assert b"".join(place.read("object", start, size)) == expected
    server.faults["object"] = ignores_ranges
    assert b"".join(place.read("object", start, size)) == expected
    server.faults["object"] = sends_another_range
    if start:
        with pytest.raises(BoxwrightError) as caught:
            list(place.read("object", start, size))
        assert caught.value.code == "repository.range"
    place.close()


def test_connections_are_kept(host: Host, server: Server) -> None:
    host.place.put([Upload("object", b"x")])
    seen: set[int] = set()

    def note(handler: Handler, _: bytes) -> bool:
        seen.add(handler.client_address[1])
        return False

    server.faults["object"] = note
    place = WebPlace(server.address, 2.0)
    for _ in range(20):
        assert whole(place, "object", 10) == b"x"
        assert place.present(["object", "absent"]) == {"object"}
    assert len(seen) <= 3
    place.close()


@pytest.mark.parametrize("name", ["../up", "/root", "a//b", ".hidden", "a/../b", "a b", "a\nb", "", "-x", "a" * 300])
def test_names_of_objects_lead_nowhere_else(host: Host, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: host.place.put([Upload(name, b"x")]),
        lambda: list(host.place.read(name)),
        lambda: host.place.delete([name]),
        lambda: host.place.present([name]),
    ]
    for call in calls:
        with pytest.raises(BoxwrightError) as caught:
            call()
        assert caught.value.code == "repository.name"


def test_a_server_that_is_gone_is_a_clear_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = WebPlace(f"http://127.0.0.1:{free.getsockname()[1]}", 1.0)
        with pytest.raises(BoxwrightError) as caught:
            whole(place, "object", 10)
    assert caught.value.code == "repository.unreachable"
    place.close()
