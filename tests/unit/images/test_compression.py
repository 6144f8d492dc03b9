"""Compressed streams: read by others, the same whatever the number of threads and however the input is cut."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import zstandard

from boxwright.errors import UsageError
from boxwright.images import compression
from boxwright.images.pipeline import BUFFER_SIZE, Pipeline
from boxwright.images.streams import write_stream

MIXED = b"".join(random.Random(1).randbytes(700) + b"text " * 300 for _ in range(9000))
PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "xz": lzma.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
}


def packed(kind: str, data: bytes, step: int = BUFFER_SIZE) -> bytes:
    """`data` compressed, handed over in pieces."""
    with closing(compression.compressor(kind)) as packer:
        parts = [packer.compress(memoryview(data)[start : start + step]) for start in range(0, len(data), step)]
        return b"".join([*parts, packer.finish()])


@pytest.mark.parametrize("kind", ["zstd", "gzip", "xz"])
@pytest.mark.parametrize("size", [1, 1000, BUFFER_SIZE, BUFFER_SIZE + 1, 8 << 20, len(MIXED)])
def test_others_read_it(kind: str, size: int) -> None:
    assert PLAIN[kind](packed(kind, MIXED[:size])) == MIXED[:size]


@pytest.mark.parametrize("kind", ["zstd", "gzip", "xz"])
def test_threads_don_t_show(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = set()
    for threads in (1, 2, 5):
        monkeypatch.setattr(compression, "THREADS", threads)
        results.add(packed(kind, MIXED))
    assert len(results) == 1


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
def test_cuts_don_t_show(kind: str) -> None:
    assert packed(kind, MIXED, 70_001) == packed(kind, MIXED)


def test_gzip_has_no_time_and_no_name() -> None:
    assert packed("gzip", b"x")[:10] == bytes.fromhex("1f8b08000000000000ff")


@pytest.mark.parametrize(("kind", "level"), [("zstd", 0), ("zstd", 20), ("gzip", 10), ("xz", -1), ("lzo", 1)])
def test_what_there_is_not(kind: str, level: int) -> None:
    with pytest.raises(UsageError):
        compression.compressor(kind, level)


@pytest.mark.parametrize("position", [0, 1])
def test_a_stage_that_fails_is_heard_of(position: int) -> None:
    def fail(_: memoryview) -> None:
        raise OSError(28, "No space left on device")

    def take(_: memoryview) -> None:
        return None

    def run_out() -> None:
        with Pipeline([fail if index == position else take for index in range(2)]) as out:
            for _ in range(50):
                out.zeros(BUFFER_SIZE)

    with pytest.raises(OSError, match="No space"):
        run_out()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_a_producer_that_fails_leaves_no_thread() -> None:
    class Stopped(KeyboardInterrupt):
        pass

    def produce(out: Pipeline) -> None:
        out.write(MIXED)
        raise Stopped

    with pytest.raises(Stopped):
        write_stream(io.BytesIO(), produce, "gzip")
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("images", "compress"))]
    assert not left
