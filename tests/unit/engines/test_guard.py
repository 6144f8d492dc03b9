"""Which processes a member's guard ends, and when: real processes that are called as LXC's monitors are."""

from __future__ import annotations

import http.server
import os
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from boxwright.engines.deploy.lxdguard import Guard, container_of, containers_of
from boxwright.engines.lxdclient.address import Endpoint
from boxwright.engines.lxdclient.client import LxdClient

NAME = "boxwright-shop_shop-db-1-g3"


@contextmanager
def monitored(directory: Path, name: str, child: str = "exec sleep 60") -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called as a monitor is, with the first process of a namespace as its child."""
    words = [f"[lxc monitor] {directory}/containers {name}", "--user", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen([*words, "sh", "-c", child], executable="/usr/bin/unshare", start_new_session=True)
    try:
        until(lambda: children(process.pid))
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_containers_of_one_stack_of_one_daemon_are_found(tmp_path: Path) -> None:
    socket = f"{tmp_path}/unix.socket"
    with (
        monitored(tmp_path, NAME) as ours,
        monitored(tmp_path, "boxwright-shopping_shopping-db-1-g1"),
        monitored(tmp_path / "other", NAME),
    ):
        assert [(it.name, [it.pid]) for it in containers_of(socket, "shop")] == [(NAME, children(ours.pid))]


@pytest.mark.parametrize(("container", "name"), [("db", "db-1-g3"), ("web-2", "web-2-10-g44"), ("lb", "lb-1-g1")])
def test_the_container_of_an_instance(container: str, name: str) -> None:
    assert container_of(f"boxwright-shop_shop-{name}", "shop") == container


STUBBORN = 'trap "" TERM; while :; do sleep 0.1; done'


@pytest.mark.parametrize(("stake", "ends"), [(None, True), (("web",), False)])
def test_what_others_may_take_over_is_ended_when_the_database_does_not_answer(
    tmp_path: Path,
    stake: tuple[str, ...] | None,
    ends: bool,  # noqa: FBT001
) -> None:
    """There is no daemon here at all. One that does not want to end is killed, not before its time."""
    told: list[tuple[str, str]] = []
    registered: list[bool] = []
    client = LxdClient(Endpoint("here", socket=f"{tmp_path}/unix.socket"))

    def tell(instance: str, text: str) -> None:
        told.append((instance, text.partition(":")[0]))

    with monitored(tmp_path, NAME, STUBBORN.replace("'", "")) as monitor:
        guard = Guard(client, "shop", 0.5, 1.2, registered.append, tell)
        if stake is not None:
            guard.note(stake)
        began = time.monotonic()
        guard.start()
        time.sleep(0.3)
        assert children(monitor.pid)
        if ends:
            until(lambda: not containers_of(f"{tmp_path}/unix.socket", "shop"))
            assert time.monotonic() - began > 1.1
            assert told == [("shop-db-1-g3", "it is stopped"), ("shop-db-1-g3", "it is killed")]
        else:
            time.sleep(2.5)
            assert children(monitor.pid)
            assert not told
        guard.end()
    assert True not in registered[-1:], "who does not watch any more does not say that it does"


class Answering(http.server.BaseHTTPRequestHandler):
    """A database that answers every question."""

    def do_GET(self) -> None:
        data = b'{"type": "sync", "metadata": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "here"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(path: str) -> Iterator[socketserver.ThreadingUnixStreamServer]:
    server = socketserver.ThreadingUnixStreamServer(path, Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_note_that_can_not_be_written_holds_up_nobody(tmp_path: Path) -> None:
    """As when the quorum is lost between the question and the note."""
    path = f"{tmp_path}/unix.socket"
    hanging = threading.Event()
    begun = threading.Event()

    def register(guarded: bool) -> None:  # noqa: FBT001  the guard's call
        if guarded:
            begun.set()
            hanging.wait()

    with monitored(tmp_path, NAME), LxdClient(Endpoint("here", socket=path)) as client:
        guard = Guard(client, "shop", 0.5, 0.5, register, lambda *_: None)
        guard.note(("db",))
        with answering(path):
            guard.start()
            assert begun.wait(10)
            time.sleep(0.8)
            assert containers_of(path, "shop"), "there is a quorum"
        os.unlink(path)
        client.close()
        began = time.monotonic()
        until(lambda: not containers_of(path, "shop"))
        assert time.monotonic() - began < 5
        hanging.set()
        guard.end()


def test_who_never_had_an_answer_does_not_wait_as_long_as_who_had_one(tmp_path: Path) -> None:
    """Another `watch` may have been killed here: how long there has been no quorum is not known."""
    path = f"{tmp_path}/unix.socket"
    with monitored(tmp_path, NAME, STUBBORN.replace("'", "")):
        guard = Guard(LxdClient(Endpoint("here", socket=path)), "shop", 60.0, 1.0, lambda _: None, lambda *_: None)
        began = time.monotonic()
        guard.start()
        until(lambda: not containers_of(path, "shop"))
        assert 0.9 < time.monotonic() - began < 5
        guard.end()
