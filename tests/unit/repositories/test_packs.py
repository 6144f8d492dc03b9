"""Packs: what goes in comes out, by ranges too; damage is found; large files are cut by content."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.blobs import upload
from boxwright.repositories.binary.packs import (
    CONTENT,
    Contents,
    Item,
    PackWriter,
    chunks,
    ranges_for,
    read_index,
    read_range,
)
from boxwright.repositories.binary.records import Pack
from tests.unit.repositories.conftest import Host


def write(host: Host, contents: list[bytes]) -> list[Pack]:
    writer = PackWriter(str(host.work))
    for content in contents:
        writer.add(CONTENT, hashlib.sha256(content).digest(), content)
    writer.finish()
    for made in writer.done:
        host.place.put([upload(made.pack.blob, path=made.path), upload(made.pack.index, made.listing)])
    return [made.pack for made in writer.done]


def opened(host: Host, packs: list[Pack]) -> Contents:
    return Contents([(pack, read_index(host.place, pack, str(host.work / "cache"))) for pack in packs])


def read(host: Host, contents: Contents, digests: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def use(item: Item, data: bytes) -> None:
        found[item.digest.hex()] = data

    wanted = [it for digest in digests if (it := contents.get(CONTENT, digest)) is not None]
    for part in ranges_for(wanted):
        read_range(host.place, part, use)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=3000), unique=True, min_size=1, max_size=30), st.data())
def test_what_goes_in_comes_out(host: Host, contents: list[bytes], data: st.DataObject) -> None:
    packs = write(host, contents)
    wanted = data.draw(st.lists(st.sampled_from(contents), unique=True))
    digests = [hashlib.sha256(content).hexdigest() for content in wanted]
    assert read(host, opened(host, packs), digests) == dict(zip(digests, wanted, strict=True))


@pytest.mark.parametrize("which", ["blob", "index"])
def test_damage_is_found(host: Host, which: str) -> None:
    contents = [random.Random(number).randbytes(1000) for number in range(20)]
    (pack,) = write(host, contents)
    digest = getattr(pack, which).digest.removeprefix("sha256:")
    path = host.directory / f"blobs/{digest[:2]}/{digest}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BoxwrightError) as caught:
        read(host, opened(host, [pack]), [hashlib.sha256(content).hexdigest() for content in contents])
    assert caught.value.code.startswith("repository.")


def test_a_damaged_copy_of_an_index_is_read_again(host: Host) -> None:
    packs = write(host, [b"content"])
    opened(host, packs)
    (copy,) = [path for path in (host.work / "cache").rglob("*") if path.is_file()]
    copy.write_bytes(b"damaged")
    assert read(host, opened(host, packs), [hashlib.sha256(b"content").hexdigest()])


def test_a_change_of_a_large_file_costs_the_chunks_around_it(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(20_000_000)
    before = cut(tmp_path, data)
    after = cut(tmp_path, data[:7_000_000] + b"inserted" + data[7_000_000:])
    assert b"".join(before) == data
    assert sum(len(chunk) for chunk in set(after) - set(before)) < 3_000_000
    assert max(map(len, before)) <= 1 << 20


def cut(tmp_path: Path, data: bytes) -> list[bytes]:
    (tmp_path / "large").write_bytes(data)
    return list(chunks(str(tmp_path / "large")))
