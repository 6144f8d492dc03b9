"""The protocol's messages, made when the program runs from a compiled description of the public .proto files.

Generated classes would tie the program to the protobuf runtimes that one version of protoc knows; descriptors do not.
`protos/` holds the .proto files as their projects publish them (Apache 2.0); scripts/protos.sh compiles them.
"""

from __future__ import annotations

import os
from typing import Any

# A build starts programs while calls are under way; the library's own handlers for fork(2) would stop both.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_REAPI = "build.bazel.remote.execution.v2"


def _load() -> descriptor_pool.DescriptorPool:
    """A pool of this module's own: nothing else in the process can have described the same messages otherwise."""
    with open(f"{os.path.dirname(__file__)}/protos/reapi.binpb", "rb") as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for description in files.file:
        pool.Add(description)
    return pool


_POOL = _load()


def _message(name: str) -> Any:  # noqa: ANN401 - their fields are known only when the program runs
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


Action = _message(f"{_REAPI}.Action")
ActionResult = _message(f"{_REAPI}.ActionResult")
BatchReadBlobsRequest = _message(f"{_REAPI}.BatchReadBlobsRequest")
BatchReadBlobsResponse = _message(f"{_REAPI}.BatchReadBlobsResponse")
BatchUpdateBlobsRequest = _message(f"{_REAPI}.BatchUpdateBlobsRequest")
BatchUpdateBlobsResponse = _message(f"{_REAPI}.BatchUpdateBlobsResponse")
Command = _message(f"{_REAPI}.Command")
Digest = _message(f"{_REAPI}.Digest")
Directory = _message(f"{_REAPI}.Directory")
ExecuteOperationMetadata = _message(f"{_REAPI}.ExecuteOperationMetadata")
ExecuteRequest = _message(f"{_REAPI}.ExecuteRequest")
ExecuteResponse = _message(f"{_REAPI}.ExecuteResponse")
FindMissingBlobsRequest = _message(f"{_REAPI}.FindMissingBlobsRequest")
FindMissingBlobsResponse = _message(f"{_REAPI}.FindMissingBlobsResponse")
GetActionResultRequest = _message(f"{_REAPI}.GetActionResultRequest")
GetCapabilitiesRequest = _message(f"{_REAPI}.GetCapabilitiesRequest")
RequestMetadata = _message(f"{_REAPI}.RequestMetadata")
ServerCapabilities = _message(f"{_REAPI}.ServerCapabilities")
UpdateActionResultRequest = _message(f"{_REAPI}.UpdateActionResultRequest")
WaitExecutionRequest = _message(f"{_REAPI}.WaitExecutionRequest")
CancelOperationRequest = _message("google.longrunning.CancelOperationRequest")
Operation = _message("google.longrunning.Operation")
Empty = _message("google.protobuf.Empty")
ReadRequest = _message("google.bytestream.ReadRequest")
ReadResponse = _message("google.bytestream.ReadResponse")
WriteRequest = _message("google.bytestream.WriteRequest")
WriteResponse = _message("google.bytestream.WriteResponse")

SHA256 = 1
"""``DigestFunction.Value.SHA256``."""
ZSTD = 1
"""``Compressor.Value.ZSTD``."""
