"""The machine's own apt configuration, in both of its forms."""

from __future__ import annotations

from pathlib import Path

from boxwright.sources.aptsources import AptSource, one_line, parse_deb822, parse_one_line, read_sources, sources_for

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
OWN = "/usr/share/keyrings/debian-archive-"
DEB822 = f"""# a comment
Types: deb deb-src
URIs: http://mirror.test/debian/
# in between
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.test/other
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://mirror.test/sources
Suites: bookworm
Components: main
"""
ONE_LINE = f"""deb http://mirror.test/debian bookworm main # why
deb [arch=amd64 signed-by={KEYRING}] http://mirror.test/security bookworm-security main
deb [signed-by=/etc/apt/keyrings/foreign.gpg] http://foreign.test/debian bookworm main
deb http://mirror.test/debian bookworm-backports main
deb http://mirror.test/debian bookworm contrib
deb-src http://mirror.test/debian bookworm main
#deb http://mirror.test/off bookworm main
"""


def test_deb822() -> None:
    assert list(parse_deb822(DEB822)) == [
        AptSource("http://mirror.test/debian", suite, ("main", "contrib"), KEYRING)
        for suite in ("bookworm", "bookworm-updates")
    ]


def test_another_suite_of_the_same_places() -> None:
    found = sources_for(parse_one_line(ONE_LINE), "bookworm", "trixie", KEYRING, OWN)
    assert [one_line(source) for source in found] == [
        f"deb [signed-by={KEYRING}] http://mirror.test/debian trixie main",
        f"deb [signed-by={KEYRING}] http://mirror.test/security trixie-security main",
    ]


def test_sid_has_no_pockets() -> None:
    found = sources_for(parse_one_line(ONE_LINE), "bookworm", "sid", KEYRING, OWN)
    assert [source.suite for source in found] == ["sid"]


def test_files(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.test/debian bookworm main\n")
    (parts / "a.sources").write_text(DEB822)
    (parts / "b.list").write_text("deb http://two.test/debian bookworm main\n")
    (parts / "c.list.disabled").write_text("deb http://off.test/debian bookworm main\n")
    assert [source.uri.split("/")[2] for source in read_sources(tmp_path)] == [
        "one.test",
        "mirror.test",
        "mirror.test",
        "two.test",
    ]
    assert read_sources(tmp_path / "nothing") == ()
