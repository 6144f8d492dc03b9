"""A journal without numbers: nothing of it is lost, whoever writes when, and it is read in few requests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.directory import DirectoryPlace
from boxwright.repositories.binary.journal import Signed
from boxwright.repositories.binary.loosejournal import PREFIX, LooseJournal
from boxwright.repositories.binary.place import UnreadableError


class LoosePlace(DirectoryPlace):
    """A directory that counts what is read of it."""

    loose = True

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.read_names: list[str] = []
        self.lost: set[str] = set()

    def listed(self, prefix: str) -> set[str]:
        return {item.name for item in self.names(prefix)}

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        self.read_names.append(name)
        if name in self.lost:
            raise UnreadableError("registry.server-error", name)
        return super().read(name, start, size)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoosePlace:
    monkeypatch.setattr(os, "fdatasync", lambda _: None)  # hundreds of small files
    (tmp_path / "place").mkdir()
    return LoosePlace(str(tmp_path / "place"))


def journal(place: LoosePlace, tmp_path: Path, name: str) -> LooseJournal:
    return LooseJournal(place, str(tmp_path / name))


def nothing() -> list[Signed]:
    """For journals of which nothing was lost."""
    raise AssertionError("nobody should ask")


def record(number: int) -> Signed:
    return Signed(f'{{"number": {number}}}'.encode(), {"key": b"s" * 64})


def test_merged_objects_are_read_in_place_of_what_they_replace(place: LoosePlace, tmp_path: Path) -> None:
    writer = journal(place, tmp_path, "writer")
    for number in range(300):
        writer.append(place, [record(number)], nothing)
    place.read_names.clear()
    reader = journal(place, tmp_path, "reader")
    assert {it.payload for it in reader.records()} == {record(number).payload for number in range(300)}
    assert len(reader.records()) == 300
    assert len(place.read_names) <= 1 + 2 + 12  # one of 256, two of 16, twelve of one
    place.read_names.clear()
    writer.append(place, [record(300)], nothing)
    assert reader.records()[-1] == record(300)
    assert len(place.read_names) == 1
    # What was merged can go, and nobody misses it.
    assert writer.prune(place, 1 << 32) == 288 + 16
    assert len(journal(place, tmp_path, "another").records()) == 301
    assert len(reader.records()) == 301


def test_what_is_there_is_not_added_again(place: LoosePlace, tmp_path: Path) -> None:
    writer = journal(place, tmp_path, "writer")
    writer.append(place, [record(1), record(2)], nothing)
    writer.append(place, [record(2)], nothing)
    assert len(place.listed(PREFIX)) == 1
    writer.append(place, [record(2)._replace(signatures={"other": b"t" * 64})], nothing)
    assert len(place.listed(PREFIX)) == 2


def test_many_writers_lose_nothing(place: LoosePlace, tmp_path: Path) -> None:
    def write(number: int) -> None:
        own = journal(place, tmp_path, f"writer-{number}")
        for item in range(20):
            own.append(place, [record(100 * number + item)], nothing)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = journal(place, tmp_path, "reader").records()
    assert {it.payload for it in found} == {record(100 * a + b).payload for a in range(6) for b in range(20)}
    assert len(found) == 120


def test_foreign_names_are_left_out_and_damage_is_an_error(place: LoosePlace, tmp_path: Path) -> None:
    journal(place, tmp_path, "writer").append(place, [record(1)], nothing)
    directory = tmp_path / "place/journal/0"
    (directory / "stray").write_bytes(b"x")
    assert len(journal(place, tmp_path, "reader").records()) == 1
    (directory / "00000000-ab").write_bytes(b"x")
    with pytest.raises(BoxwrightError) as caught:
        journal(place, tmp_path, "another").records()
    assert caught.value.code == "repository.damaged"


def test_what_the_place_lost_is_replaced_by_the_next_writer(place: LoosePlace, tmp_path: Path) -> None:
    for number in range(20):  # sixteen of them are merged
        journal(place, tmp_path, f"writer-{number}").append(place, [record(number)], nothing)
    place.lost = place.listed(PREFIX)
    with pytest.raises(UnreadableError):
        journal(place, tmp_path, "reader").records()
    every = [record(number) for number in range(20)]
    journal(place, tmp_path, "mender").append(place, [record(20)], lambda: every)
    found = journal(place, tmp_path, "another").records()
    assert {it.payload for it in found} == {record(number).payload for number in range(21)}
