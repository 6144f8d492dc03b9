"""The content addressable storage: only what is missing is sent, once, by whichever thread needs it first."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.connection import Connection
from boxwright.repositories.reapi.settings import EMPTY, Blob, RemoteError
from boxwright.repositories.reapi.transfer import Stream

Source = Callable[[Blob], bytes | str]
"""Where the bytes of a blob are: themselves, or a file's path."""

SERVICE = "/build.bazel.remote.execution.v2.ContentAddressableStorage"
DEFAULT_BATCH = 4 << 20
ROOM = 64 << 10
"""What a batch's message may need beside its blobs."""
PER_BLOB = 100
ASKED_AT_ONCE = 20_000
SENDERS = 4


class _Claim:
    """The blobs that one thread is making sure of."""

    def __init__(self) -> None:
        self.done = threading.Event()


class Cas:
    """One instance of a server's storage. For many threads."""

    def __init__(self, connection: Connection, instance: str, capabilities: Any) -> None:  # noqa: ANN401 - a message
        self._connection = connection
        self._instance = instance
        cache = capabilities.cache_capabilities
        most = min(cache.max_batch_total_size_bytes or DEFAULT_BATCH, DEFAULT_BATCH)
        self._batch = most - min(ROOM, most // 4)
        self._compress_batches = messages.ZSTD in cache.supported_batch_update_compressors
        self._stream = Stream(connection, instance, compress=messages.ZSTD in cache.supported_compressors)
        self._lock = threading.Lock()
        self._present: set[Blob] = {EMPTY}
        self._claimed: dict[Blob, _Claim] = {}

    def ensure(self, blobs: Collection[Blob], source: Source) -> None:
        """Have all of them there. Raises RemoteError."""
        wanted = set(blobs)
        while wanted:
            claim = _Claim()
            with self._lock:
                wanted -= self._present
                others = {self._claimed[blob] for blob in wanted if blob in self._claimed}
                mine = [blob for blob in wanted if blob not in self._claimed]
                self._claimed.update(dict.fromkeys(mine, claim))
            try:
                if mine:
                    self._send(self.missing(mine), source)
                    with self._lock:
                        self._present.update(mine)
            finally:
                with self._lock:
                    for blob in mine:
                        del self._claimed[blob]
                claim.done.set()
            for other in others:
                other.done.wait()

    def forget(self) -> None:
        """Believe nothing about what is there: the server lost something."""
        with self._lock:
            self._present = {EMPTY}

    def missing(self, blobs: Collection[Blob]) -> list[Blob]:
        """Those that the server lacks."""
        every = list(blobs)
        found: list[Blob] = []
        for start in range(0, len(every), ASKED_AT_ONCE):
            request = messages.FindMissingBlobsRequest(instance_name=self._instance)
            for blob in every[start : start + ASKED_AT_ONCE]:
                request.blob_digests.add(hash=blob.hash, size_bytes=blob.size)
            response = self._connection.call(f"{SERVICE}/FindMissingBlobs", request, messages.FindMissingBlobsResponse)
            found += [Blob(digest.hash, digest.size_bytes) for digest in response.missing_blob_digests]
        asked = set(every)
        return [blob for blob in found if blob in asked]

    def _send(self, blobs: list[Blob], source: Source) -> None:
        large = [blob for blob in blobs if blob.size + PER_BLOB > self._batch]
        small = [blob for blob in blobs if blob.size + PER_BLOB <= self._batch]
        batches = list(self._batches(small))
        if len(batches) + len(large) <= 1:
            for batch in batches:
                self._send_batch(batch, source)
            for blob in large:
                self._send_large(blob, source)
            return
        with ThreadPoolExecutor(SENDERS) as pool:
            work = [pool.submit(self._send_batch, batch, source) for batch in batches]
            work += [pool.submit(self._send_large, blob, source) for blob in large]
            try:
                for item in work:
                    item.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send_large(self, blob: Blob, source: Source) -> None:
        self._stream.write(blob, source(blob))

    def _batches(self, blobs: Iterable[Blob]) -> Iterator[list[Blob]]:
        batch: list[Blob] = []
        size = 0
        for blob in blobs:
            if size + blob.size + PER_BLOB > self._batch:
                yield batch
                batch, size = [], 0
            batch.append(blob)
            size += blob.size + PER_BLOB
        if batch:
            yield batch

    def _send_batch(self, blobs: list[Blob], source: Source) -> None:
        request = messages.BatchUpdateBlobsRequest(instance_name=self._instance)
        for blob in blobs:
            item = request.requests.add(data=_read(source(blob)))
            item.digest.hash, item.digest.size_bytes = blob
            if self._compress_batches:
                import zstandard

                item.data = zstandard.ZstdCompressor().compress(item.data)
                item.compressor = messages.ZSTD
        limit = self._connection.time_limit + request.ByteSize() / (1 << 20)
        response = self._connection.call(
            f"{SERVICE}/BatchUpdateBlobs", request, messages.BatchUpdateBlobsResponse, limit=limit
        )
        refused = [item for item in response.responses if item.status.code]
        if refused:
            text = f"{self._connection.url} does not take {refused[0].digest.hash[:12]}: {refused[0].status.message}"
            raise RemoteError("remote.upload", text)

    def fetch(self, blob: Blob, path: str) -> None:
        """Write a blob to a file; its bytes are what its digest says. Raises RemoteError (`gone` false: not there)."""
        self._stream.read(blob, path)

    def read(self, blob: Blob) -> bytes:
        """A small blob's bytes."""
        if blob == EMPTY:
            return b""
        if blob.size + PER_BLOB > self._batch:
            raise RemoteError("remote.download", f"{blob.hash[:12]} is too large", gone=False)
        request = messages.BatchReadBlobsRequest(instance_name=self._instance)
        request.digests.add(hash=blob.hash, size_bytes=blob.size)
        response = self._connection.call(f"{SERVICE}/BatchReadBlobs", request, messages.BatchReadBlobsResponse)
        data: bytes = response.responses[0].data if response.responses else b""
        if hashlib.sha256(data).hexdigest() != blob.hash:
            raise RemoteError("remote.download", f"{self._connection.url} does not have {blob.hash[:12]}", gone=False)
        return data

    def read_any(self, blob: Blob) -> bytes:
        """A blob's bytes, whatever its size. Raises RemoteError (`gone` false: not there)."""
        if blob.size + PER_BLOB <= self._batch:
            return self.read(blob)
        with tempfile.TemporaryDirectory(prefix="boxwright-") as directory:
            self.fetch(blob, f"{directory}/blob")
            with open(f"{directory}/blob", "rb") as file:
                return file.read()


def _read(source: bytes | str) -> bytes:
    if isinstance(source, bytes):
        return source
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read()
