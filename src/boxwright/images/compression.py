"""Compressors whose output depends on the input, the level and the library alone: never on the machine's processors.

zstd cuts its input into jobs of a fixed size, whatever the number of threads (zstd.h, "ZSTD_c_jobSize"). gzip
(RFC 1952; no name, no time) and xz are cut into blocks here, which threads compress side by side.
"""

from __future__ import annotations

import lzma
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from boxwright.errors import MachineError, UsageError

THREADS = 2
"""Fixed: more would need more memory, and the output does not depend on it."""

LEVELS = {"zstd": (1, 1, 19), "gzip": (3, 1, 9), "xz": (0, 0, 9)}
"""The default level of each, the lowest and the highest. Measured: see docs/outputs.md."""

_ZSTD_JOB = 1 << 20
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_WINDOW = 32 << 10
_XZ_BLOCK = 1 << 20


class Compressor(Protocol):
    """Takes bytes, gives compressed ones."""

    def compress(self, data: memoryview) -> bytes:
        """Take `data`, which may change afterwards; give what is ready."""
        ...

    def finish(self) -> bytes:
        """Give the rest."""
        ...

    def close(self) -> None:
        """Leave no thread behind, finished or not."""
        ...


class Zstd:
    """zstd, in threads of its own."""

    def __init__(self, level: int) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise MachineError(
                "output.no-zstd", "the Python library zstandard is missing", hint="pip install zstandard"
            ) from error
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, threads=THREADS, job_size=_ZSTD_JOB, write_checksum=1
        )
        self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def compress(self, data: memoryview) -> bytes:
        """Hand `data` to the threads."""
        return bytes(self._stream.compress(data))

    def finish(self) -> bytes:
        """Wait for the threads."""
        return bytes(self._stream.flush())

    def close(self) -> None:
        """The library's threads end with the object."""


class _Blocks:
    """Blocks of one size, compressed side by side and given out in order."""

    def __init__(self, size: int, work: Callable[[bytes, bytes, bool], bytes]) -> None:
        self._size = size
        self._work = work
        self._parts: list[bytes] = []
        self._held = 0
        self._before = b""
        self._executor = ThreadPoolExecutor(THREADS, "compress")
        self._pending: deque[Future[bytes]] = deque()

    def take(self, data: memoryview) -> bytes:
        """Collect `data`, start blocks that are full, give those that are ready."""
        done: list[bytes] = []
        while data:
            part = data[: self._size - self._held]
            self._parts.append(bytes(part))
            self._held += len(part)
            data = data[len(part) :]
            if self._held == self._size:
                self._start(last=False)
                if len(self._pending) > THREADS:
                    done.append(self._pending.popleft().result())
        return b"".join(done)

    def rest(self) -> bytes:
        """Give all that is left; the last block may be empty."""
        self._start(last=True)
        return b"".join([future.result() for future in self._pending])

    def _start(self, *, last: bool) -> None:
        block = b"".join(self._parts)
        self._pending.append(self._executor.submit(self._work, block, self._before, last))
        self._before = block[-_GZIP_WINDOW:]
        self._parts.clear()
        self._held = 0

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(cancel_futures=True)


class Gzip:
    """One gzip member of blocks that each know the end of the one before."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._blocks = _Blocks(1 << 20, self._deflate)
        self._head = _GZIP_HEAD
        self._check = 0
        self._size = 0

    def _deflate(self, block: bytes, before: bytes, last: bool) -> bytes:  # noqa: FBT001 - called by position
        stream = zlib.compressobj(self._level, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, before)
        return stream.compress(block) + stream.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    def compress(self, data: memoryview) -> bytes:
        """Collect, and give blocks that are ready."""
        self._check = zlib.crc32(data, self._check)
        self._size += len(data)
        head, self._head = self._head, b""
        return head + self._blocks.take(data)

    def finish(self) -> bytes:
        """The last block, the checksum and the size (RFC 1952, 2.3.1)."""
        tail = self._check.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._head + self._blocks.rest() + tail

    def close(self) -> None:
        """End the threads."""
        self._blocks.close()


class Xz:
    """A row of xz streams, which every reader of the format takes as one (xz-file-format, 2)."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._blocks = _Blocks(_XZ_BLOCK, self._stream)

    def _stream(self, block: bytes, before: bytes, last: bool) -> bytes:  # noqa: FBT001 - as _Blocks calls
        return lzma.compress(block, lzma.FORMAT_XZ, lzma.CHECK_CRC64, self._level) if block else b""

    def compress(self, data: memoryview) -> bytes:
        """Collect, and give streams that are ready."""
        return self._blocks.take(data)

    def finish(self) -> bytes:
        """The last stream."""
        return self._blocks.rest()

    def close(self) -> None:
        """End the threads."""
        self._blocks.close()


def level_of(kind: str, level: int | None) -> int:
    """The level to use; UsageError when it is out of range."""
    default, lowest, highest = LEVELS[kind]
    chosen = default if level is None else level
    if not lowest <= chosen <= highest:
        raise UsageError("output.bad-level", f"{kind} has levels {lowest} to {highest}, not {chosen}")
    return chosen


def compressor(kind: str, level: int | None = None) -> Compressor:
    """The compressor named `kind`: zstd, gzip or xz."""
    match kind:
        case "zstd":
            return Zstd(level_of(kind, level))
        case "gzip":
            return Gzip(level_of(kind, level))
        case "xz":
            return Xz(level_of(kind, level))
    raise UsageError("output.unknown-compression", f"{kind!r} is no compression", hint="one of none, zstd, gzip, xz")
