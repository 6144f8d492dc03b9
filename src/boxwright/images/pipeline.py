"""Bytes on their way from the tree to a file: read, hashed and compressed at the same time.

A few buffers of one size go round. The reader fills one; each stage, a thread of its own, works on it and hands it on;
the last one gives it back. Hashing, compressing and writing release the interpreter's lock, so two processors are used,
and memory is bounded by the number of buffers. Every buffer but the last is full, so a compressor sees the same cuts
on every machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self

BUFFER_SIZE = 1 << 20
BUFFERS = 5

Stage = Callable[[memoryview], object]
_Queue = SimpleQueue[tuple[memoryview, int] | None]
_ZEROS = bytes(BUFFER_SIZE)


class StageFailedError(Exception):
    """A stage broke off; leaving the pipeline raises what it met."""


class Pipeline:
    """Collects bytes in buffers and sends each through `stages`, in order. Only to be used with `with`."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._queues: list[_Queue] = [SimpleQueue() for _ in range(len(self._stages) + 1)]
        for _ in range(BUFFERS - 1):
            self._queues[-1].put((memoryview(bytearray(BUFFER_SIZE)), 0))
        self._view = memoryview(bytearray(BUFFER_SIZE))
        self._used = 0
        self._sent = 0
        self._broken = threading.Event()
        self._running: list[Future[None]] = []
        self._executor = ThreadPoolExecutor(len(self._stages), "images")

    @property
    def total(self) -> int:
        """The bytes that were given so far."""
        return self._sent + self._used

    def __enter__(self) -> Self:
        for position in range(len(self._stages)):
            self._running.append(self._executor.submit(self._serve, position))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the stages; raise what one of them met, unless the caller met something else."""
        if kind is None and self._used:
            self._queues[0].put((self._view, self._used))
            self._sent, self._used = self._sent + self._used, 0
        elif kind is not None:
            self._broken.set()
        self._queues[0].put(None)
        self._executor.shutdown()
        if kind is None or issubclass(kind, StageFailedError):
            for future in self._running:
                future.result()

    def _serve(self, position: int) -> None:
        """One stage, until the end or until some stage failed."""
        stage, inbox, outbox = self._stages[position], self._queues[position], self._queues[position + 1]
        done = False
        try:
            while (item := inbox.get()) is not None:
                if not self._broken.is_set():
                    stage(item[0][: item[1]])
                outbox.put(item)
            done = True
        finally:
            if not done:
                self._broken.set()
                self._queues[-1].put(None)
                while inbox.get() is not None:
                    pass
            outbox.put(None)

    def _send(self) -> None:
        """Hand the buffer on and take an empty one."""
        self._queues[0].put((self._view, self._used))
        self._sent += self._used
        self._used = 0
        fresh = self._queues[-1].get()
        if fresh is None or self._broken.is_set():
            raise StageFailedError
        self._view = fresh[0]

    def write(self, data: bytes) -> None:
        """Append `data`."""
        end = self._used + len(data)
        if end <= BUFFER_SIZE:
            self._view[self._used : end] = data
            self._used = end
            return
        rest = memoryview(data)
        while rest:
            if self._used == BUFFER_SIZE:
                self._send()
            part = min(len(rest), BUFFER_SIZE - self._used)
            self._view[self._used : self._used + part] = rest[:part]
            self._used += part
            rest = rest[part:]

    def zeros(self, count: int) -> None:
        """Append `count` zeros, at most a buffer's worth."""
        self.write(_ZEROS[:count])

    def read_from(self, descriptor: int, size: int) -> int:
        """Append up to `size` bytes of an open file; returns how many there were."""
        missing = size
        while missing:
            used = self._used
            if used == BUFFER_SIZE:
                self._send()
                used = 0
            got = os.readv(descriptor, (self._view[used : used + missing],))
            if not got:
                break
            self._used = used + got
            missing -= got
        return size - missing
