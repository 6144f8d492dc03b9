"""Packages that somebody changed, in every way."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwright.errors import FetchError
from boxwright.sources.alpine.archive import open_archive
from boxwright.sources.alpine.index import Package, parse_index
from boxwright.sources.alpine.segments import read_segment
from tests.alpinemirror import ARCHITECTURE, Mirror, file, make_key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, bytes]:
    """A package's record in the index, and its file."""
    place: Path = tmp_path_factory.mktemp("mirror")
    mirror = Mirror(place, make_key(place / "keys"))
    scripts = {"post-install": b"#!/bin/sh\n", "trigger": b"#!/bin/sh\necho\n"}
    path = mirror.add("thing", "1.2-r3", {file("a"): b"x" * 3000}, scripts=scripts, triggers="/a /b*")
    (package,) = parse_index(mirror.records["thing-1.2-r3"], "http://m/main", ARCHITECTURE)
    return package, path.read_bytes()


def test_good(made: tuple[Package, bytes]) -> None:
    package, data = made
    archive = open_archive(io.BytesIO(data), package)
    assert archive.scripts == {"post-install": b"#!/bin/sh\n", "trigger": b"#!/bin/sh\necho\n"}
    assert archive.triggers == ("/a", "/b*")
    assert gzip.decompress(data[archive.data_start :]).count(b"x") >= 3000


def test_without_a_signature_of_its_own(made: tuple[Package, bytes]) -> None:
    """The index covers it."""
    package, data = made
    start = read_segment(io.BytesIO(data), 0).end
    assert open_archive(io.BytesIO(data[start:]), package).data_start < len(data) - start


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_one_changed_byte(made: tuple[Package, bytes], data: st.DataObject) -> None:
    """It is refused, or the byte was in the package's own signature, which nobody reads."""
    package, whole = made
    signature = read_segment(io.BytesIO(whole), 0).end
    position = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[position]))
    changed = whole[:position] + bytes([value]) + whole[position + 1 :]
    try:
        open_archive(io.BytesIO(changed), package)
    except FetchError:
        return
    assert position < signature


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_cut_off(made: tuple[Package, bytes], data: st.DataObject) -> None:
    package, whole = made
    with pytest.raises(FetchError):
        open_archive(io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))]), package)


@given(st.binary(max_size=200))
def test_anything(made: tuple[Package, bytes], data: bytes) -> None:
    for content in (data, gzip.compress(data)):
        with pytest.raises(FetchError):
            open_archive(io.BytesIO(content), made[0])


def test_a_description_without_end() -> None:
    with pytest.raises(FetchError) as caught:
        read_segment(io.BytesIO(gzip.compress(bytes(64 << 20))), 0)
    assert caught.value.code == "unpack.too-large"


@given(st.lists(st.binary(min_size=1, max_size=200_000), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_segments_end_where_they_end(parts: list[bytes]) -> None:
    whole = b"".join(gzip.compress(part, mtime=0) for part in parts)
    position = 0
    for part in parts:
        segment = read_segment(io.BytesIO(whole), position)
        assert segment.data == part
        position = segment.end
    assert position == len(whole)
