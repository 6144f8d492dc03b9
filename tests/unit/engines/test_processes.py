"""Processes that are meant, and that have ended."""

from __future__ import annotations

import signal
import subprocess

from boxwright.engines import processes


def test_nobody_is_sent_nothing() -> None:
    """As where an engine knows no first process any more: its id is 0."""
    nobody = processes.mark(0)
    assert not processes.is_alive(nobody)
    assert not processes.send(nobody, signal.SIGTERM)
    assert processes.await_end(nobody, 0)


def test_a_process_is_ended_once() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        marked = processes.mark(process.pid)
        assert not processes.await_end(marked, 0)
        assert processes.send(marked, signal.SIGKILL)
        assert processes.await_end(marked, 10)
        process.wait(10)
        assert not processes.send(marked, signal.SIGKILL)
