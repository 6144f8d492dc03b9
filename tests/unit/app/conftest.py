"""A store of its own for each test, and engines that need no time to settle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.app.opening import open_store
from boxwright.deploy import health
from boxwright.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store({"BOXWRIGHT_HOME": str(tmp_path / "store")}) as found:
        yield found


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SETTLE", 0.0)
