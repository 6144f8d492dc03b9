"""A commit as a source: the same bytes for everybody."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from boxwright.sources.gitarchive import archive_commit


def git(directory: Path, *words: str) -> str:
    own = ["-c", "user.name=n", "-c", "user.email=e", "-c", "filter.loud.clean=cat", "-c", "filter.loud.smudge=cat"]
    done = subprocess.run(["git", "-C", directory, *own, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q", "--initial-branch=main")
    (place / ".gitattributes").write_text("v export-subst\nloud filter=loud\nleft export-ignore\n")
    (place / "v").write_text("$Format:%d %(describe)$\n")
    (place / "loud").write_text("pointer\n")
    (place / "left").write_text("out\n")
    (place / "program").write_text("#!/bin/sh\n")
    (place / "program").chmod(0o755)
    git(place, "add", "--all")
    git(place, "commit", "-q", "-m", "one")
    return place


def test_neither_configuration_nor_names_of_refs_count(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    found = []
    for number, text in enumerate(
        ("", '[tar]\n\tumask = 077\n[filter "loud"]\n\tsmudge = tr a-z A-Z\n[core]\n\tautocrlf = true\n')
    ):
        home = tmp_path / f"home{number}"
        home.mkdir()
        (home / ".gitconfig").write_text(text)
        monkeypatch.setenv("HOME", str(home))
        archive_commit([str(repository)], commit, str(home / "tar"), lambda _: None)
        found.append((home / "tar").read_bytes())
        git(repository, "tag", "-a", "-m", "t", f"v{number}")
        git(repository, "branch", f"b{number}")
    assert found[0] == found[1]
    with tarfile.open(tmp_path / "home1/tar") as archive:
        members = {member.name: member for member in archive}
        assert set(members) == {".gitattributes", "v", "loud", "program"}
        assert oct(members["program"].mode) == "0o775"
        assert {name: archive.extractfile(name).read() for name in ("v", "loud")} == {  # type: ignore[union-attr]
            "v": b"$Format:%d %(describe)$\n",
            "loud": b"pointer\n",
        }
