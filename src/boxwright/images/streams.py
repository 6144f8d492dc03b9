"""A stream of tar to a file: hashed before and after it is compressed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from boxwright.images.compression import compressor
from boxwright.images.pipeline import Pipeline
from boxwright.model.digest import Digest, digest_from_hex


class Sink(Protocol):
    """What takes bytes: a file, or the input of a program."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take all of `data`."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a stream came to: digest and size before (`plain_`) and after it was compressed."""

    plain_digest: Digest
    plain_size: int
    digest: Digest
    size: int


def write_stream(
    sink: Sink, produce: Callable[[Pipeline], None], compression: str, level: int | None = None
) -> Written:
    """Send what `produce` appends through the compressor to `sink`."""
    before, after = hashlib.sha256(), hashlib.sha256()
    size = 0

    def keep(data: bytes) -> None:
        nonlocal size
        if data:
            after.update(data)
            sink.write(data)
            size += len(data)

    if compression == "none":
        with Pipeline((before.update, sink.write)) as out:
            produce(out)
        digest = digest_from_hex(before.hexdigest())
        return Written(digest, out.total, digest, out.total)
    with closing(compressor(compression, level)) as packer:
        with Pipeline((before.update, lambda data: keep(packer.compress(data)))) as out:
            produce(out)
        keep(packer.finish())
    return Written(digest_from_hex(before.hexdigest()), out.total, digest_from_hex(after.hexdigest()), size)
