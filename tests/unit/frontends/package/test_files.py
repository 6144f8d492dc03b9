"""What definitions take from beside them, and from outside: where it lies on this machine is no part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwright.app.outside import Outside
from boxwright.app.packagefiles import DefinitionFiles
from boxwright.errors import BoxwrightError
from boxwright.frontends.package.resolve import resolve
from boxwright.frontends.package.wanted import Found
from boxwright.model.step import BuildPackage
from boxwright.sources.localtree import digest_local
from boxwright.store.packages import Packages

NOBODY = "http://127.0.0.1:9"  # nobody listens to the discard port


class NoStore(Packages):
    """Nothing is kept here."""

    def __init__(self, path: Path) -> None:
        """Files in the making are at `path`."""
        self.path = path

    def pin(self, name: str) -> str | None:
        return None

    @contextmanager
    def adding(self) -> Iterator[str]:
        yield str(self.path)


def resolved(
    directory: Path, text: str, trees: tuple[str, ...] = (), *, offline: bool = False, locking: bool = False
) -> BuildPackage:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pkg.yaml").write_text(f"name: x\nversion: 1\n{text}")
    files = DefinitionFiles(
        NoStore(directory.parent / "part"), trees, {}, epoch=None, locked=False, output=lambda _: None,
        outside=Outside(offline=offline, timeout=1),
    )  # fmt: skip
    files.locking = locking
    return resolve(Found(str(directory / "pkg.yaml"), ""), "linux/amd64", files).step


@pytest.mark.parametrize(
    ("local", "below", "name"),
    [
        (".", "", "source.tar"),
        ("..", "deep/er", "source.tar"),
        ("./.", "", "source.tar"),
        ("src", "", "src.tar"),
        ("../other", "deep", "other.tar"),
    ],
)
def test_what_a_checkouts_directory_is_called_does_not_count(tmp_path: Path, local: str, below: str, name: str) -> None:
    found = []
    for checkout in ("one", "two"):
        top = tmp_path / checkout
        for place in ("src", "other", "deep/er"):
            (top / place).mkdir(parents=True)
            (top / place / "f").write_text("text")
        found.append(resolved(top / below, f"sources: [{{local: '{local}'}}]\n", (str(top),)).sources[0].files)
    assert found[0] == found[1]
    assert found[0][0][0] == name


def test_the_marks_of_git_do_not_count(tmp_path: Path) -> None:
    digests = set()
    for mark in ("none", "directory", "file", "link"):
        place = tmp_path / mark / "module"
        place.mkdir(parents=True)
        (place / "f").write_text("text")
        (place / ".gitignore").write_text("kept\n")
        match mark:
            case "directory":
                (place / ".git").mkdir()
                (place / ".git/HEAD").write_text("x")
            case "file":
                (place / ".git").write_text(f"gitdir: {tmp_path}/.git/modules/module\n")
            case "link":
                (place / ".git").symlink_to(tmp_path)
        digests.add(digest_local(str(tmp_path / mark)))
    assert len(digests) == 1


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        (f"sources:\n  - url: {NOBODY}/f\n", (4, 5), "sha256: "),
        (f"patches:\n  {NOBODY}/f.patch: because\n", (4, 3), f"{NOBODY}/f.patch: {{reason: ..., sha256: "),
    ],
)
def test_a_missing_checksum_is_said_with_its_place_whatever_the_network_does(
    tmp_path: Path, text: str, place: tuple[int, int], line: str, *, offline: bool
) -> None:
    with pytest.raises(BoxwrightError) as caught:
        resolved(tmp_path / "x", text, offline=offline)
    assert caught.value.code == "package.no-checksum"
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == place
    assert line in caught.value.hint
    with pytest.raises(BoxwrightError) as caught:
        resolved(tmp_path / "x", text, offline=offline, locking=True)
    assert caught.value.code == ("source.offline" if offline else "source.fetch")
    assert caught.value.where is not None
