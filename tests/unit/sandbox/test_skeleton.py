from __future__ import annotations

from pathlib import Path

from boxwright.ports import Bind, Tmpfs
from boxwright.sandbox import skeleton


def test_holds_each_mount_point(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    cache = tmp_path / "cache"
    cache.mkdir()
    here = str(tmp_path)
    mounts = (Bind(str(file), "/a/b/file"), Bind(here, "/c"), Tmpfs("/d/../e"), Bind(here, "/../x/.."))
    made = Path(skeleton.ensure(cache, mounts))
    assert (made / "a/b/file").is_file()
    assert (made / "c").is_dir()
    assert (made / "e").is_dir()
    assert {entry.name for entry in made.iterdir()} == {"a", "c", "e", "proc", "sys", "dev", "etc"}
    assert (made / "a").stat().st_mode & 0o777 == 0o755
    assert skeleton.ensure(cache, mounts) == str(made)
    assert [entry.name for entry in cache.iterdir()] == [made.name]
