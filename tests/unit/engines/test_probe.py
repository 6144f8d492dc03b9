"""The program that asks a port from inside a container, run as it is."""

from __future__ import annotations

import platform
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from boxwright.engines.probe import probe_input, probe_program


@pytest.fixture
def program(tmp_path: Path) -> Path:
    found = tmp_path / "probe"
    found.write_bytes(probe_program(platform.machine()))
    found.chmod(0o755)
    return found


def ask(program: Path, port: int, request: bytes = b"") -> tuple[int, bytes]:
    given = probe_input("127.0.0.1", port, request)
    done = subprocess.run([program], input=given, capture_output=True, timeout=10, check=False)
    return done.returncode, done.stdout


def test_it_hands_on_request_and_answer(program: Path) -> None:
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection = server.accept()[0]
            with connection:
                received.append(connection.recv(100))
                connection.sendall(b"answer" * 5000)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(program, server.getsockname()[1], b"request") == (0, b"answer" * 5000)
        thread.join()
        assert received == [b"request"]
        assert ask(program, server.getsockname()[1]) == (0, b"")


def test_it_fails_where_nobody_listens_and_without_an_address(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask(program, port, b"request") == (1, b"")
    assert subprocess.run([program], input=b"short", timeout=10, check=False).returncode == 1


def test_there_is_one_for_each_machine_that_images_name() -> None:
    assert probe_program("amd64") == probe_program("x86_64")
    assert probe_program("arm64")[18:20] == bytes([183, 0])
    with pytest.raises(KeyError):
        probe_program("vax")
