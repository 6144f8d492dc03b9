"""Large blobs as streams (google.bytestream), compressed with zstd where the server takes that."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from typing import IO, Any

from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.connection import Connection, status_of
from boxwright.repositories.reapi.settings import EMPTY, Blob, RemoteError

import grpc  # isort: skip - `messages` says first how it behaves when programs are started

SERVICE = "/google.bytestream.ByteStream"
CHUNK = 1 << 20
SLOWEST = 1 << 20
"""Bytes per second: a transfer may take a call's limit and a second for each of these."""


class Stream:
    """Streams to and from one instance."""

    def __init__(self, connection: Connection, instance: str, *, compress: bool) -> None:
        self._connection = connection
        self._prefix = f"{instance}/" if instance else ""
        self._compress = compress

    def _limit(self, blob: Blob) -> float:
        return self._connection.time_limit + blob.size / SLOWEST

    def write(self, blob: Blob, source: bytes | str) -> None:
        """Send a blob. Raises RemoteError."""
        committed = self._connection.retried(lambda: self._write(blob, source))
        if committed not in (-1, blob.size) and not self._compress:
            text = f"{self._connection.url} took {committed} of {blob.size} bytes of {blob.hash[:12]}"
            raise RemoteError("remote.upload", text)

    def _write(self, blob: Blob, source: bytes | str) -> int:
        kind = "compressed-blobs/zstd" if self._compress else "blobs"
        name = f"{self._prefix}uploads/{uuid.uuid4()}/{kind}/{blob.hash}/{blob.size}"
        with _opened(source) as file:
            requests = self._requests(name, file)
            try:
                response = self._connection.send(
                    f"{SERVICE}/Write", requests, messages.WriteResponse, limit=self._limit(blob)
                )
            except grpc.RpcError as error:
                if status_of(error) == grpc.StatusCode.ALREADY_EXISTS:
                    return blob.size
                raise
        committed: int = response.committed_size
        return committed

    def _requests(self, name: str, file: IO[bytes]) -> Iterator[Any]:
        """The messages of a stream; the last one says that it is the last."""
        offset = 0
        chunks = self._compressed(file) if self._compress else iter(lambda: file.read(CHUNK), b"")
        held = next(chunks, b"")
        for chunk in chunks:
            yield messages.WriteRequest(resource_name=name if not offset else "", write_offset=offset, data=held)
            offset += len(held)
            held = chunk
        yield messages.WriteRequest(
            resource_name=name if not offset else "", write_offset=offset, data=held, finish_write=True
        )

    @staticmethod
    def _compressed(file: IO[bytes]) -> Iterator[bytes]:
        import zstandard

        return (chunk for chunk in zstandard.ZstdCompressor().read_to_iter(file, write_size=CHUNK) if chunk)

    def read(self, blob: Blob, path: str) -> None:
        """Write a blob to a new file. An interrupted transfer goes on where it stopped. Raises RemoteError."""
        with open(path, "xb") as file:
            if blob == EMPTY:
                return
            digest = hashlib.sha256()
            if self._connection.retried(lambda: self._read(blob, file, digest), absent=True) is None:
                text = f"{self._connection.url} does not have {blob.hash[:12]}"
                raise RemoteError("remote.download", text, gone=False)
            if file.tell() != blob.size or digest.hexdigest() != blob.hash:
                raise RemoteError("remote.damaged", f"{self._connection.url} gives other bytes for {blob.hash[:12]}")

    def _read(self, blob: Blob, file: IO[bytes], digest: Any) -> bool:  # noqa: ANN401 - hashlib has no name for it
        kind = "compressed-blobs/zstd" if self._compress else "blobs"
        request = messages.ReadRequest(
            resource_name=f"{self._prefix}{kind}/{blob.hash}/{blob.size}", read_offset=file.tell()
        )
        answers = self._connection.receive(f"{SERVICE}/Read", request, messages.ReadResponse, limit=self._limit(blob))
        try:
            for data in _decompressed(answers) if self._compress else (answer.data for answer in answers):
                if file.tell() + len(data) > blob.size:
                    text = f"{self._connection.url} gives more bytes than {blob.hash[:12]} has"
                    raise RemoteError("remote.damaged", text)
                file.write(data)
                digest.update(data)
        finally:
            answers.cancel()
        return True


def _decompressed(answers: Any) -> Iterator[bytes]:  # noqa: ANN401 - a stream of messages
    """What a zstd stream holds, a bounded piece at a time: the sender may have packed terabytes of zeros."""
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(io.BufferedReader(_Answers(answers)), read_across_frames=True)
    while data := reader.read(CHUNK):
        yield data


class _Answers(io.RawIOBase):
    """A stream of answers as a file."""

    def __init__(self, answers: Any) -> None:  # noqa: ANN401 - a stream of messages
        self._answers = answers
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        while not self._left:
            answer = next(self._answers, None)
            if answer is None:
                return 0
            self._left = answer.data
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _opened(source: bytes | str) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
