"""A connection to one address: TLS, token, a time limit for each call, retries with growing pauses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.settings import RemoteError, Settings

import grpc  # isort: skip - `messages` says first how it behaves when programs are started

ATTEMPTS = 4
FIRST_PAUSE = 0.1
TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
GONE = TRANSIENT | {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
METADATA_KEY = "build.bazel.remote.execution.v2.requestmetadata-bin"


def target_of(url: str) -> tuple[str, bool]:
    """The ``HOST:PORT`` of an address, and whether it is spoken to over TLS. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(url)
    secure = parts.scheme in ("grpcs", "https")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if secure else 80)}", secure


class Connection:
    """One HTTP/2 connection. `build` names this build to the server's operators."""

    def __init__(self, url: str, settings: Settings, build: str) -> None:
        self.url = url
        self.time_limit = settings.time_limit
        target, secure = target_of(url)
        if secure:
            self._channel = grpc.secure_channel(target, _credentials(settings), OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, OPTIONS)
        metadata = messages.RequestMetadata(tool_invocation_id=build)
        metadata.tool_details.tool_name = "boxwright"
        own: list[tuple[str, str | bytes]] = [(METADATA_KEY, metadata.SerializeToString())]
        if settings.token:
            own.append(("authorization", f"Bearer {settings.token}"))
        self._metadata = tuple(own)
        self._methods: dict[str, Any] = {}

    def close(self) -> None:
        """End every call that is under way."""
        self._channel.close()

    def call(self, method: str, request: Any, response: Any, *, limit: float = 0.0, absent: bool = False) -> Any:  # noqa: ANN401
        """One call, tried again where that may help. Raises RemoteError.

        `limit` in seconds, by default the connection's. With `absent` None says that there is no such thing.
        """
        return self.retried(lambda: self.once(method, request, response, limit=limit), absent=absent)

    def once(self, method: str, request: Any, response: Any, *, limit: float = 0.0) -> Any:  # noqa: ANN401 - messages
        """The same without trying again: raises grpc.RpcError."""
        known = self._methods.get(method)
        if known is None:
            known = self._channel.unary_unary(
                method, request_serializer=_serialize, response_deserializer=response.FromString
            )
            self._methods[method] = known
        return known(request, timeout=limit or self.time_limit, metadata=self._metadata)

    def receive(self, method: str, request: Any, response: Any, *, limit: float) -> Any:  # noqa: ANN401 - messages
        """A call that is answered by a stream: an iterator that can be cancelled and raises grpc.RpcError."""
        call = self._channel.unary_stream(
            method, request_serializer=_serialize, response_deserializer=response.FromString
        )
        return call(request, timeout=limit, metadata=self._metadata)

    def send(self, method: str, requests: Iterator[Any], response: Any, *, limit: float) -> Any:  # noqa: ANN401
        """A call that sends a stream. Raises grpc.RpcError."""
        call = self._channel.stream_unary(
            method, request_serializer=_serialize, response_deserializer=response.FromString
        )
        return call(requests, timeout=limit, metadata=self._metadata)

    def retried(self, work: Callable[[], Any], *, absent: bool = False) -> Any:  # noqa: ANN401 - what `work` returns
        """Do it, again after a pause where it failed in passing. A time limit that was missed is tried once more."""
        started = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return work()
            except grpc.RpcError as error:
                late = time.monotonic() - started > self.time_limit * 1.5
                if absent and status_of(error) == grpc.StatusCode.NOT_FOUND:
                    return None
                if status_of(error) not in TRANSIENT or attempt == ATTEMPTS or late:
                    raise unusable(self.url, error) from error
            time.sleep(pause(attempt))
        raise AssertionError


def pause(attempt: int) -> float:
    """Seconds to wait after the attempt of this number: twice as long each time, never the same for two clients."""
    return FIRST_PAUSE * float(2**attempt) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def status_of(error: Any) -> grpc.StatusCode:  # noqa: ANN401 - what calls raise has a code, its class has none
    """What the server, or the way to it, answered."""
    code: grpc.StatusCode = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    return code


def unusable(url: str, error: Any) -> RemoteError:  # noqa: ANN401 - as above
    """The error for a server that doesn't do what it is asked."""
    status = status_of(error)
    said = (error.details() if hasattr(error, "details") else "") or ""
    details = " ".join(said.split())[:200]
    if status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return RemoteError("remote.refused", f"{url} refuses this client: {details}", hint="look at `token` and `tls`")
    if status == grpc.StatusCode.UNIMPLEMENTED:
        return RemoteError("remote.unsupported", f"{url} can't do what it is asked: {details}")
    if status == grpc.StatusCode.DEADLINE_EXCEEDED:
        return RemoteError("remote.slow", f"{url} does not answer in time")
    if status == grpc.StatusCode.UNAVAILABLE:
        return RemoteError("remote.gone", f"{url} can't be reached: {details}")
    return RemoteError("remote.failed", f"{url} failed ({status.name}): {details}", gone=status in GONE)


def _serialize(message: Any) -> bytes:  # noqa: ANN401 - a message
    data: bytes = message.SerializeToString()
    return data


def _credentials(settings: Settings) -> grpc.ChannelCredentials:
    def read(path: str) -> bytes | None:
        if not path:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise RemoteError("remote.tls-file", f"{settings.name}: {path} can't be read: {error.strerror}") from error

    tls = settings.tls
    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))
