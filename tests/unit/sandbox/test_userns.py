from __future__ import annotations

from pathlib import Path

from boxwright.sandbox.userns import Range, id_map, read_ranges


def test_ranges_by_name_and_number(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("other:1:2\napp:100000:65536\n1000:300000:10\nbroken\napp:x:1\n")
    assert read_ranges(file, "app", 1000) == (Range(100000, 65536), Range(300000, 10))
    assert read_ranges(tmp_path / "missing", "app", 1000) == ()


def test_map_is_without_gaps() -> None:
    words = id_map(1000, (Range(100000, 65536), Range(300000, 10)))
    assert words == ["0", "1000", "1", "1", "100000", "65536", "65537", "300000", "10"]
