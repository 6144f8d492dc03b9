from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.engines.streams import copy_until_end, read_log
from boxwright.files import close_others


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def copied(log: Path, feed: Callable[[int], None], target: int) -> None:
    """What `feed` writes, copied until it returns."""
    source, writable = os.pipe()
    ended, end = os.pipe()
    kept = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work() -> None:
        feed(writable)
        os.close(end)

    thread = threading.Thread(target=work)
    thread.start()
    copy_until_end({source: target}, kept, ended)
    thread.join()
    for fd in (source, writable, ended, kept):
        os.close(fd)


def test_all_is_copied_and_kept(log: Path, tmp_path: Path) -> None:
    target = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
    data = bytes(range(256)) * 2000
    copied(log, lambda fd: _write(fd, data), target)
    os.close(target)
    assert log.read_bytes() == data
    assert (tmp_path / "target").read_bytes() == data


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def test_the_log_goes_on_when_nobody_listens(log: Path) -> None:
    readable, target = os.pipe()
    os.close(readable)
    copied(log, lambda fd: _write(fd, b"x" * 300_000), target)
    os.close(target)
    assert log.read_bytes() == b"x" * 300_000


def test_a_log_is_followed(log: Path) -> None:
    log.write_bytes(b"one\n")
    rounds = iter([True, True, False])

    def goes_on() -> bool:
        with log.open("ab") as file:
            file.write(b"more\n")
        return next(rounds)

    assert b"".join(read_log(str(log), goes_on)) == b"one\nmore\nmore\nmore\n"


def test_a_child_keeps_only_what_it_is_told() -> None:
    pairs = [os.pipe() for _ in range(3)]
    answer, said = os.pipe()
    child = os.fork()
    if child == 0:
        close_others(said, pairs[1][0], -1)
        os.write(said, " ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    # Beside the standard streams and what was kept, the one by which the directory is read.
    found = {int(word) for word in os.read(answer, 1000).split()}
    assert {said, pairs[1][0]} <= found
    assert len(found - {0, 1, 2, said, pairs[1][0]}) == 1
    for fd in (answer, said, *(fd for pair in pairs for fd in pair)):
        os.close(fd)
