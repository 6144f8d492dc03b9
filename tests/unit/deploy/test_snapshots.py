"""Snapshots of directories while their files come and go, and what may be done meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from boxwright.engines.deploy.directories import DirectoryVolumes
from boxwright.engines.documents import StackDirectory
from boxwright.errors import BoxwrightError


class Volumes(DirectoryVolumes):
    def __init__(self, place: Path) -> None:
        self.place = place
        self.directory = StackDirectory(lambda stack: f"{place}/{stack}")
        os.makedirs(place / "volume")

    def volume_directory(self, stack: str, volume: str) -> str:
        return f"{self.place}/volume"

    def snapshots_directory(self, stack: str, volume: str) -> str:
        return f"{self.place}/snapshots"

    def copying(self, stack: str, patience: float = 0.0) -> AbstractContextManager[None]:
        return self.directory.copying(stack, patience)


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


@contextmanager
def churning(directory: Path) -> Iterator[None]:
    """Files and directories come and go, and one is replaced, as fast as can be."""
    ended = threading.Event()

    def churn() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            (directory / f"new{number % 60}").mkdir(exist_ok=True)
            (directory / f"new{number % 60}/file").touch()
            gone = directory / f"new{(number + 30) % 60}"
            if gone.exists():
                (gone / "file").unlink()
                gone.rmdir()
            (directory / "next").write_text("x" * 5000)
            (directory / "next").rename(directory / "replaced")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_snapshot_is_taken_while_files_come_and_go(volumes: Volumes) -> None:
    directory = volumes.place / "volume"
    for number in range(300):
        (directory / f"{number}").write_text("x" * 2000)
    (directory / "replaced").write_text("x" * 5000)
    with churning(directory):
        for number in range(4):
            volumes.take_snapshot("shop", "data", f"n{number}")
    for number in range(4):
        taken = volumes.place / f"snapshots/n{number}"
        assert {f"{it}" for it in range(300)} | {"replaced"} <= set(os.listdir(taken))
        assert len((taken / "replaced").read_text()) == 5000
    assert sorted(os.listdir(volumes.place / "snapshots")) == [f"n{it}" for it in range(4)]


def cp_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A cp that does `script` after the real one; its last word is the copy."""
    (tmp_path / "cp").write_text(f'#!/bin/sh\n/bin/cp "$@" || exit\nfor new do :; done\n{script}\n')
    (tmp_path / "cp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_what_was_replaced_while_it_was_copied_is_in_the_snapshot(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = volumes.place / "volume"
    (directory / "d e").mkdir()
    (directory / "d e/-f\n").write_text("kept")
    (directory / "d e").chmod(0o750)
    message = "cp: skipping file 'd', as it was replaced while being copied"
    cp_that(tmp_path, monkeypatch, f'rm -r "$new/d e"; echo "{message}" >&2; exit 1')
    volumes.take_snapshot("shop", "data", "one")
    taken = volumes.place / "snapshots/one/d e"
    assert (taken / "-f\n").read_text() == "kept"
    assert taken.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "said",
    [
        "cp: error reading 'a': Input/output error",
        "cp: cannot stat 'b': No such file or directory\ncp: error writing 'a': No space left on device",
        "",
    ],
)
def test_a_copy_that_fails_is_no_snapshot(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    cp_that(tmp_path, monkeypatch, f'printf "%s" "{said}" >&2; exit 1')
    with pytest.raises(BoxwrightError) as caught:
        volumes.take_snapshot("shop", "data", "one")
    assert caught.value.code == "volume.failed"
    assert os.listdir(volumes.place / "snapshots") == []


def test_a_stack_is_changed_while_its_volumes_are_copied(volumes: Volumes) -> None:
    with volumes.copying("shop"):
        with volumes.directory.lock("shop", 0):
            pass
        with pytest.raises(BoxwrightError) as caught, volumes.copying("shop"):
            pass
    assert caught.value.code == "deploy.busy"
