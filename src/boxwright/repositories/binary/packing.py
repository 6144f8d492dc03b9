"""Compressed content: zstd, unpacked never further than it may."""

from __future__ import annotations

from boxwright.errors import FetchError

LEVEL = 6


def packed(data: bytes, level: int = LEVEL) -> bytes:
    """`data`, compressed."""
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress(data)


def unpacked(data: bytes, most: int, where: str) -> bytes:
    """What `data` was before; at most `most` bytes. Raises FetchError `repository.damaged`."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            plain = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise FetchError("repository.damaged", f"{where} can't be unpacked: {error}") from error
    if len(plain) > most:
        raise FetchError("repository.too-large", f"{where} unpacks to more than {most} bytes")
    return bytes(plain)
