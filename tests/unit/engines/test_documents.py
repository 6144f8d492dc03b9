"""What is remembered of a stack: the lock that whoever changes it holds."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from boxwright.engines.documents import StackDirectory
from boxwright.errors import BoxwrightError


@pytest.fixture
def directory(tmp_path: Path) -> StackDirectory:
    return StackDirectory(lambda stack: str(tmp_path / stack))


def test_who_has_no_patience_is_told(directory: StackDirectory) -> None:
    with directory.lock("a", 0), directory.lock("b", 0):
        with pytest.raises(BoxwrightError) as caught, directory.lock("a", 0):
            pass
        assert caught.value.code == "deploy.busy"
    with directory.lock("a", 0):
        pass


def test_it_is_waited_for(directory: StackDirectory) -> None:
    held, order = threading.Event(), []

    def work() -> None:
        with directory.lock("a", 0):
            held.set()
            time.sleep(0.2)
            order.append("first")

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    with directory.lock("a", 60):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_stack_that_went_meanwhile_is_not_changed(directory: StackDirectory) -> None:
    held = threading.Event()

    def destroy() -> None:
        with directory.lock("a", 0):
            held.set()
            time.sleep(0.2)
            directory.forget("a")

    thread = threading.Thread(target=destroy)
    thread.start()
    held.wait()
    with pytest.raises(BoxwrightError) as caught, directory.lock("a", 60):
        pass
    thread.join()
    assert caught.value.code == "deploy.busy"


def test_what_fails_while_it_is_held_is_no_other_process(directory: StackDirectory) -> None:
    with pytest.raises(BlockingIOError), directory.lock("a", 0):
        raise BlockingIOError
