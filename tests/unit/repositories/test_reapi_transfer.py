"""Blobs on their way: only what is missing, once, in batches and streams, compressed where that is offered."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.cas import Cas
from boxwright.repositories.reapi.connection import Connection
from boxwright.repositories.reapi.settings import Blob, RemoteError, Settings
from boxwright.repositories.reapi.trees import blob_of

import grpc  # isort: skip - `messages` says first how it behaves when programs are started


class Storage(grpc.GenericRpcHandler):
    """A server's storage that speaks zstd, as buildbox-casd does not. It checks what a server would."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.names: list[str] = []
        self.lock = threading.Lock()
        self.sent: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        streams = {"Write": grpc.stream_unary_rpc_method_handler, "Read": grpc.unary_stream_rpc_method_handler}
        make = streams.get(name, grpc.unary_unary_rpc_method_handler)
        request = {"Write": messages.WriteRequest, "Read": messages.ReadRequest}.get(name) or getattr(
            messages, f"{name}Request"
        )
        return make(getattr(self, name), request.FromString, lambda message: message.SerializeToString())

    def FindMissingBlobs(self, request: Any, _: Any) -> Any:  # noqa: N802 - the protocol's name
        missing = [digest for digest in request.blob_digests if digest.hash not in self.blobs]
        return messages.FindMissingBlobsResponse(missing_blob_digests=missing)

    def BatchUpdateBlobs(self, request: Any, _: Any) -> Any:  # noqa: N802 - likewise
        assert request.ByteSize() <= 4 << 20
        response = messages.BatchUpdateBlobsResponse()
        for item in request.requests:
            data = zstandard.ZstdDecompressor().decompress(item.data) if item.compressor else item.data
            self._keep(item.digest.hash, item.digest.size_bytes, data)
            response.responses.add().digest.CopyFrom(item.digest)
        return response

    def Write(self, requests: Iterator[Any], _: Any) -> Any:  # noqa: N802 - likewise
        data, name, last = b"", "", False
        for request in requests:
            assert request.write_offset == len(data)
            name = name or request.resource_name
            data += request.data
            last = request.finish_write
        assert last
        self.names.append(name)
        *_, digest, size = name.split("/")
        committed = len(data)
        if "compressed-blobs/zstd" in name:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        self._keep(digest, int(size), data)
        return messages.WriteResponse(committed_size=committed)

    def Read(self, request: Any, _: Any) -> Iterator[Any]:  # noqa: N802 - likewise
        self.names.append(request.resource_name)
        data = self.blobs[request.resource_name.split("/")[-2]][request.read_offset :]
        if "compressed-blobs/zstd" in request.resource_name:
            data = zstandard.ZstdCompressor().compress(data)
        for start in range(0, len(data), 1000):
            yield messages.ReadResponse(data=data[start : start + 1000])

    def _keep(self, digest: str, size: int, data: bytes) -> None:
        assert len(data) == size
        assert hashlib.sha256(data).hexdigest() == digest
        with self.lock:
            self.blobs[digest] = data
            self.sent.append(digest)


@pytest.fixture
def storage() -> Iterator[tuple[Storage, Connection]]:
    from concurrent.futures import ThreadPoolExecutor

    kept = Storage()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=[kept], options=[("grpc.max_receive_message_length", -1)])
        url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        connection = Connection(url, Settings("test", url, url, time_limit=10), "build")
        yield kept, connection
        connection.close()
        server.stop(0).wait()


def capabilities(*, compress: bool) -> Any:
    found = messages.ServerCapabilities()
    if compress:
        found.cache_capabilities.supported_compressors.append(messages.ZSTD)
        found.cache_capabilities.supported_batch_update_compressors.append(messages.ZSTD)
    return found


DATA = {blob_of(data): data for data in [b"x" * 5_000_000, b"small", b"", *(b"%d" % n * 900_000 for n in range(9))]}


@pytest.mark.parametrize("way", ["plain", "zstd"])
def test_blobs_go_and_come_back(way: str, storage: tuple[Storage, Connection], tmp_path: Path) -> None:
    server, connection = storage
    cas = Cas(connection, "main", capabilities(compress=way == "zstd"))
    cas.ensure(DATA, DATA.__getitem__)
    assert set(server.sent) == {blob.hash for blob, data in DATA.items() if data}
    assert len(server.sent) == len(DATA) - 1
    for number, (blob, data) in enumerate(DATA.items()):
        cas.fetch(blob, f"{tmp_path}/{number}")
        assert (tmp_path / str(number)).read_bytes() == data
    assert all(name.startswith("main/") for name in server.names)
    assert all(("compressed-blobs/zstd" in name) == (way == "zstd") for name in server.names)


def test_many_threads_send_a_blob_once(storage: tuple[Storage, Connection]) -> None:
    server, connection = storage
    cas = Cas(connection, "", capabilities(compress=False))
    threads = [threading.Thread(target=cas.ensure, args=(DATA, DATA.__getitem__)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.sent) == len(set(server.sent)) == len(DATA) - 1


def test_what_is_there_is_not_sent(storage: tuple[Storage, Connection]) -> None:
    server, connection = storage
    first, *others = (blob for blob in DATA if blob.size)
    server.blobs[first.hash] = DATA[first]
    Cas(connection, "", capabilities(compress=False)).ensure(DATA, DATA.__getitem__)
    assert sorted(server.sent) == sorted(blob.hash for blob in others)


def test_packed_terabytes_end_at_the_size_that_was_said(storage: tuple[Storage, Connection], tmp_path: Path) -> None:
    server, connection = storage
    blob = Blob(hashlib.sha256(b"0").hexdigest(), 1)
    server.blobs[blob.hash] = bytes(200_000_000)
    with pytest.raises(RemoteError) as caught:
        Cas(connection, "", capabilities(compress=True)).fetch(blob, f"{tmp_path}/bomb")
    assert caught.value.code == "remote.damaged"
    assert (tmp_path / "bomb").stat().st_size <= 1
