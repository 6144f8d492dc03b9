"""Users are read from a container's tree, and nothing outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.engines.building.accounts import Accounts, root_of


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    (tmp_path / "tree/etc").mkdir(parents=True)
    made = Accounts(lambda path: f"asked {path}".encode(), os.open(tmp_path / "tree", os.O_PATH))
    yield made
    made.close()


def test_a_file_of_the_tree(accounts: Accounts, tmp_path: Path) -> None:
    assert accounts.read("/etc/passwd") is None
    (tmp_path / "tree/etc/passwd").write_text("root")
    assert accounts.read("/etc/passwd") == b"root"
    accounts.close()
    assert accounts.read("/etc/passwd") == b"asked /etc/passwd"


@pytest.mark.parametrize("link", ["tree/etc/passwd", "tree/etc"])
def test_links_are_left_to_the_engine(accounts: Accounts, tmp_path: Path, link: str) -> None:
    (tmp_path / "passwd").write_text("outside")
    if link == "tree/etc":
        (tmp_path / link).rmdir()
    (tmp_path / link).symlink_to(tmp_path / "passwd" if link.endswith("passwd") else tmp_path)
    assert accounts.read("/etc/passwd") == b"asked /etc/passwd"


def test_what_is_no_file(accounts: Accounts, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tree/etc/passwd")
    assert accounts.read("/etc/passwd") is None


def test_a_process_of_another_container() -> None:
    assert root_of(os.getpid(), "boxwright-build-000000") is None
    assert root_of(1 << 30, "") is None
