"""Where old versions of Debian's packages are looked for when nobody says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwright.app.outside import debian_snapshot


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vendor: Debian\nVendor-URL: https://www.distro.example/\nBugs: x\n", "https://snapshot.distro.example"),
        ("Vendor-URL: https://distro.example\n", "https://snapshot.distro.example"),
        ("Vendor: Debian\n", ""),
        ("", ""),
    ],
)
def test_the_vendor_names_the_site(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "vendor").write_text(text)
    assert debian_snapshot(str(tmp_path / "vendor")) == expected


def test_without_a_vendor_there_is_none(tmp_path: Path) -> None:
    assert debian_snapshot(str(tmp_path / "missing")) == ""
