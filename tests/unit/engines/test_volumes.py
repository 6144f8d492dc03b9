from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxwright.engines.records import Mounted
from boxwright.engines.volumes import VolumeOption, Volumes, parse_volume, plan_volumes
from boxwright.errors import BoxwrightError, UsageError
from tests.unit.store.made import snapshot, store_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", VolumeOption("", "/data")),
        ("name:/data", VolumeOption("name", "/data")),
        ("name:/data:ro", VolumeOption("name", "/data", read_only=True)),
        ("/host:/data:rw,z", VolumeOption("/host", "/data")),
        ("/host/../other:/a/./b/../c//", VolumeOption("/other", "/a/c")),
        ("/data:ro", VolumeOption("", "/data", read_only=True)),
        ("name:/a/../../b", VolumeOption("name", "/b")),
    ],
)
def test_volumes_are_read(text: str, expected: VolumeOption) -> None:
    assert parse_volume(text) == expected


def test_paths_of_this_machine_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_volume("./sub:/x").source == f"{tmp_path}/sub"
    assert parse_volume(".:/x").source == str(tmp_path)
    assert parse_volume("..:/x").source == str(tmp_path.parent)


@pytest.mark.parametrize(
    "text", ["", ":", ":/x", "x", "a:b", "a:/b:no", "a:/b:ro:x", "-a:/b", "a:/", "a:/b/..", "é:/b"]
)
def test_what_is_no_volume(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_volume(text)
    assert caught.value.code == "usage.volume"


def test_one_volume_for_each_target() -> None:
    """What was given comes before another container's, and that before the image's own."""
    given = (VolumeOption("mine", "/a"),)
    inherited = (Mounted("/v/1", "/a"), Mounted("/v/2", "/b"))
    planned = plan_volumes(given, ("/a", "/b/", "/c", "/c/deep"), inherited)
    assert planned == (given[0], inherited[1], VolumeOption("", "/c"), VolumeOption("", "/c/deep"))


def test_new_volumes_hold_what_the_image_has(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    tree = snapshot(store, "top", {"srv/a": b"1", "srv/sub/b": b"2", "etc/x": b"3"})
    volumes = Volumes(f"{tmp_path}/volumes", store)
    wanted = (VolumeOption("data", "/srv"), VolumeOption("", "/srv/sub"), VolumeOption("", "/not/there"))
    named, own, empty = volumes.provide(wanted, tree, f"{tmp_path}/own")
    assert (Path(named.source) / "sub/b").read_bytes() == b"2"
    assert os.listdir(own.source) == ["b"]
    assert os.listdir(empty.source) == []
    (Path(named.source) / "a").write_bytes(b"changed")
    (again,) = volumes.provide((VolumeOption("data", "/etc"),), tree, f"{tmp_path}/own2")
    assert (Path(again.source) / "a").read_bytes() == b"changed", "a volume that is there is not filled again"
    assert sorted(os.listdir(tmp_path / "volumes")) == ["data"]
    with pytest.raises(BoxwrightError) as caught:
        volumes.provide((VolumeOption("/no/such/place", "/x"),), tree, f"{tmp_path}/own3")
    assert caught.value.code == "run.volume-missing"
    store.close()
