"""The execution service of one node: an action is handed over, watched, and taken back when nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.connection import Connection, pause, status_of, unusable
from boxwright.repositories.reapi.settings import Blob, RemoteError, Settings
from boxwright.repositories.reapi.trees import digest_message

import grpc  # isort: skip - `messages` says first how it behaves when programs are started

SERVICE = "/build.bazel.remote.execution.v2.Execution"
CAPABILITIES = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities"
CANCEL = "/google.longrunning.Operations/CancelOperation"
STREAMS = 80
"""Calls at once on one connection: servers take a hundred or more (RFC 9113, 6.5.2)."""
POLL_SECONDS = 0.2
RECONNECTS = 3
OK = 0
MISSING = frozenset({5, 9})
"""NOT_FOUND and FAILED_PRECONDITION: the server lacks a blob of the action (remote_execution.proto, Execute)."""
PASSING = frozenset({1, 2, 4, 8, 10, 13, 14})
"""Codes of google.rpc.Status by which a server says that it, and not the action, is why there is no result."""


class MissingInputs(Exception):  # noqa: N818 - it asks for something
    """The server lacks blobs of the action."""


class Node:
    """One address that executes. `busy` actions are there now; `failed_at` is when it last failed (monotonic)."""

    def __init__(self, url: str, settings: Settings, build: str) -> None:
        self.url = url
        self.busy = 0
        self.failed_at = float("-inf")
        self._settings = settings
        count = max(1, -(-settings.jobs // STREAMS))
        self._connections = [Connection(url, settings, build) for _ in range(count)]
        self._control = Connection(url, settings, build)
        self._guard = Guard(self._control, settings)
        self._next = 0

    def close(self) -> None:
        """End every call that is under way."""
        for connection in (*self._connections, self._control):
            connection.close()

    def check(self) -> None:
        """Raise RemoteError where the node does not answer or does not execute."""
        request = messages.GetCapabilitiesRequest(instance_name=self._settings.instance)
        answer = self._control.call(CAPABILITIES, request, messages.ServerCapabilities)
        if not answer.execution_capabilities.exec_enabled:
            raise RemoteError("remote.no-execution", f"{self.url} does not execute actions")

    def execute(self, action: Blob, cancelled: Callable[[], bool], *, again: bool) -> Any:  # noqa: ANN401 - a message
        """Run an action to its end; returns the ExecuteResponse. `again`: whatever the cache holds.

        Raises RemoteError where the node failed, MissingInputs, and KeyboardInterrupt when cancelled.
        """
        self._next += 1
        connection = self._connections[self._next % len(self._connections)]
        request: Any = messages.ExecuteRequest(
            instance_name=self._settings.instance, action_digest=digest_message(action), skip_cache_lookup=again
        )
        method, name = f"{SERVICE}/Execute", ""
        for attempt in range(1, RECONNECTS + 1):
            call = connection.receive(method, request, messages.Operation, limit=self._settings.action_limit)
            operation = None
            try:
                with self._guard.watching(call, cancelled):
                    for operation in call:
                        name = operation.name or name
                        if operation.done:
                            break
            except (grpc.RpcError, _Silent) as error:
                self._take_back(name, cancelled)
                cause = error.cause if isinstance(error, _Silent) else error
                status = status_of(cause)
                if status in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                    raise MissingInputs from error
                if status != grpc.StatusCode.UNAVAILABLE or not name or attempt == RECONNECTS:
                    raise unusable(self.url, cause) from error
                time.sleep(pause(attempt))
                # The connection broke, the work need not have.
                request, method = messages.WaitExecutionRequest(name=name), f"{SERVICE}/WaitExecution"
            else:
                return self._response(operation)
        raise AssertionError

    def _take_back(self, name: str, cancelled: Callable[[], bool]) -> None:
        """Tell the node that nobody waits any more, where that is so."""
        if cancelled():
            if name:
                with suppress(grpc.RpcError):
                    self._control.once(CANCEL, messages.CancelOperationRequest(name=name), messages.Empty, limit=2.0)
            raise KeyboardInterrupt

    def _response(self, operation: Any) -> Any:  # noqa: ANN401 - messages
        if operation is None or operation.WhichOneof("result") is None:
            raise RemoteError("remote.failed", f"{self.url} ended a call without a result", gone=False)
        if operation.HasField("error"):
            self._raise(operation.error)
        response = messages.ExecuteResponse.FromString(operation.response.value)
        if response.status.code != OK:
            self._raise(response.status)
        return response

    def _raise(self, status: Any) -> None:  # noqa: ANN401 - a message
        if status.code in MISSING:
            raise MissingInputs
        code = "remote.failed" if status.code in PASSING else "remote.rejected"
        text = f"{self.url} could not run an action (code {status.code}): {' '.join(status.message.split())[:200]}"
        raise RemoteError(code, text, gone=False)


class _Silent(Exception):  # noqa: N818 - says of the node what a call can't
    """The node stopped to answer while a call was under way."""

    def __init__(self, cause: grpc.RpcError) -> None:
        super().__init__()
        self.cause = cause


class Guard:
    """Ends calls that are under way on a node when their build is cancelled, or the node no longer answers.

    An action may be silent for hours; a node that works says what it can do at once.
    """

    def __init__(self, control: Connection, settings: Settings) -> None:
        self._control = control
        self._settings = settings
        self._lock = threading.Lock()
        self._calls: dict[Any, Callable[[], bool]] = {}
        self._silent: dict[Any, grpc.RpcError] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, call: Any, cancelled: Callable[[], bool]) -> Iterator[None]:  # noqa: ANN401 - a call
        """Watch a call as long as the context lasts. Raises what the node failed with where it fell silent."""
        with self._lock:
            self._calls[call] = cancelled
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
        try:
            yield
        except grpc.RpcError:
            with self._lock:
                silent = self._silent.get(call)
            if silent is not None:
                raise _Silent(silent) from None
            raise
        finally:
            with self._lock:
                del self._calls[call]
                self._silent.pop(call, None)
            call.cancel()

    def _work(self) -> None:
        asked = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS)
            with self._lock:
                if not self._calls:
                    self._thread = None
                    return
                unwanted = [call for call, cancelled in self._calls.items() if cancelled()]
            for call in unwanted:
                call.cancel()
            if time.monotonic() - asked >= self._settings.time_limit:
                self._ask()
                asked = time.monotonic()

    def _ask(self) -> None:
        request = messages.GetCapabilitiesRequest(instance_name=self._settings.instance)
        try:
            self._control.once(CAPABILITIES, request, messages.ServerCapabilities)
        except grpc.RpcError as error:
            with self._lock:
                calls = list(self._calls)
                self._silent.update(dict.fromkeys(calls, error))
            for call in calls:
                call.cancel()
