"""A gRPC proxy that does harm: it hands calls on as bytes, and does to some of them what a test says."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from boxwright.repositories.reapi import messages as messages  # noqa: PLC0414 - says how gRPC behaves at forks

import grpc  # isort: skip - after the above

Fault = Callable[["Call"], Iterator[bytes] | None]
"""What is done to a call: None hands it on, an iterator is the answer."""


class Call:
    """One call: its method, what is sent, and the way to the real server. `number` counts calls of this method."""

    def __init__(
        self, method: str, number: int, requests: Iterator[bytes], context: Any, channel: grpc.Channel
    ) -> None:
        self.method = method
        self.number = number
        self.requests = requests
        self.context = context
        self._channel = channel

    def handed_on(self) -> Iterator[bytes]:
        """What the real server answers."""
        call = self._channel.stream_stream(self.method, request_serializer=_same, response_deserializer=_same)
        metadata = tuple(pair for pair in self.context.invocation_metadata() if pair[0] != "user-agent")
        answers = call(self.requests, metadata=metadata, timeout=self.context.time_remaining())
        self.context.add_callback(answers.cancel)
        try:
            yield from answers
        except grpc.RpcError as error:
            self.context.abort(error.code(), error.details() or "")

    def fail(self, code: grpc.StatusCode, details: str = "as the test says") -> Iterator[bytes]:
        """Answer with an error."""
        self.context.abort(code, details)
        yield b""

    def stall(self) -> Iterator[bytes]:
        """Answer nothing as long as anybody listens."""
        while self.context.is_active():
            time.sleep(0.05)
        yield from ()


class FaultProxy(grpc.GenericRpcHandler):
    """Listens at `url`. `faults` is by the last word of a method's name; ``*`` is for all others; `calls` counts."""

    def __init__(self, backend: str) -> None:
        self.faults: dict[str, Fault] = {}
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(backend.partition("://")[2], [("grpc.max_receive_message_length", -1)])
        self._pool = ThreadPoolExecutor(400)
        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(self._pool, handlers=[self], options=options)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"grpc://127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()
        self._pool.shutdown(wait=True)

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            name = method.rpartition("/")[2]
            with self._lock:
                self.calls[name] += 1
                number = self.calls[name]
            call = Call(method, number, requests, context, self._channel)
            fault = self.faults.get(name) or self.faults.get("*")
            answer = fault(call) if fault else None
            yield from call.handed_on() if answer is None else answer

        return grpc.stream_stream_rpc_method_handler(serve, _same, _same)


def _same(data: bytes) -> bytes:
    return data


def failing(code: grpc.StatusCode, first: int = 1 << 30) -> Fault:
    """The first calls are answered with an error."""
    return lambda call: call.fail(code) if call.number <= first else None
