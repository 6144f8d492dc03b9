"""What apt is asked for is a package, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.errors import FetchError
from boxwright.sources import debian

OPTION = "-oDir::Bin::dpkg=/evil"


def unheard(_: bytes) -> None:
    """Nothing is run that could say something."""


@pytest.mark.parametrize(("name", "version"), [(OPTION, ""), (OPTION, "1"), ("x", OPTION), ("", "1"), ("x y", "1")])
def test_options_are_no_packages(name: str, version: str, tmp_path: Path) -> None:
    """Locks, pins and mirrors are not read by the schema of definitions."""
    directory, apt = str(tmp_path), str(tmp_path / "apt")
    calls: list[Callable[[], object]] = [
        lambda: debian.find_binary(name, version, apt, unheard),
        lambda: debian.find_source(name, version, apt, unheard),
        lambda: debian.fetch_source(name, version, directory, apt, unheard),
        lambda: debian.versions_with(f"{name} {version}", "0" * 64, apt, unheard),
    ]
    for call in calls:
        with pytest.raises(FetchError) as caught:
            call()
        assert caught.value.code == "source.fetch"
    assert not (tmp_path / "apt").exists(), "apt was not asked"
