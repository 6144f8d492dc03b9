"""The judge of `make reproducible`: it sees what differs."""

from __future__ import annotations

import io
import shutil
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from tests.reproducible import compare

NOW = 1_700_000_000.0


def archive(path: Path, files: dict[str, bytes], *, mode: int = 0o644, mtime: int = 0) -> str:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), mode, mtime
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(zstandard.compress(plain.getvalue()))
    return str(path)


@pytest.fixture(autouse=True)
def no_diffoscope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)


def test_members_that_differ_are_named(tmp_path: Path) -> None:
    one = archive(tmp_path / "one", {"a": b"x", "b": b"y", "only": b""})
    other = archive(tmp_path / "other", {"a": b"x", "b": b"z", "more": b""})
    assert compare.differences(one, other) == ["b", "more", "only"]
    assert compare.differences(one, one) == []


@pytest.mark.parametrize("change", [{"mode": 0o600}, {"mtime": 1}])
def test_metadata_counts(tmp_path: Path, change: dict[str, int]) -> None:
    one = archive(tmp_path / "one", {"a": b"x"})
    assert compare.differences(one, archive(tmp_path / "other", {"a": b"x"}, **change)) == ["a"]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%b %d %Y", "%d %B %Y"])
def test_the_day_of_the_build_is_found(tmp_path: Path, form: str) -> None:
    day = time.strftime(form, time.gmtime(NOW)).encode()
    found = archive(tmp_path / "one", {"dated": b"built on " + day + b" at", "plain": b"1980-01-01"})
    assert compare.dated(found, (NOW,)) == ["dated"]
