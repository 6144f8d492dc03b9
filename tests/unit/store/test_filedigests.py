"""Digests of files that are remembered by the files' status."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from boxwright.store import filedigests
from boxwright.store.filedigests import file_digest
from boxwright.store.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(str(tmp_path / "index.db"))


def hexdigest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_file_is_read_once(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    monkeypatch.setattr(filedigests, "RACY_SECONDS", -10)
    assert file_digest(index, str(file)) == hexdigest("one")
    monkeypatch.setattr(filedigests, "hash_file", lambda _path: pytest.fail("was read again"))
    assert file_digest(index, str(file)) == hexdigest("one")


def test_a_changed_file_is_read_again(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    monkeypatch.setattr(filedigests, "RACY_SECONDS", -10)
    file_digest(index, str(file))
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time: the change's time tells
    assert file_digest(index, str(file)) == hexdigest("two")


def test_a_file_that_has_just_changed_is_not_remembered(index: Index, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    file_digest(index, str(file))
    assert index.one("SELECT 1 FROM artifacts") is None


def test_no_file(index: Index, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(index, str(tmp_path / "none"))
