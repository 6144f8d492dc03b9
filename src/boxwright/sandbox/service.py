"""A sandbox that runs beside others until it is asked to end: its standard input is a pipe whose end says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from boxwright.errors import StepError
from boxwright.ports import ExitStatus, SandboxSpec
from boxwright.sandbox.launcher import Launcher

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 600.0
_WAKE_SECONDS: Final = 0.5
_TAIL: Final = 4096


class RunningService:
    """One service; a thread of this process attends to it. `name` is for messages."""

    def __init__(self, launcher: Launcher, name: str, spec: SandboxSpec, ready: str) -> None:
        self._launcher = launcher
        self._name = name
        self._spec = spec
        self._ready = ready.encode() + b"\n"
        self._said = b""
        self._status: ExitStatus | None = None
        self._error: BaseException | None = None
        self._killed = threading.Event()
        self._changed = threading.Condition()
        self._input, self._control = os.pipe()
        self._thread = threading.Thread(target=self._attend, daemon=True)

    def start(self, first: bytes) -> None:
        """Start it, with `first` on its standard input."""
        os.write(self._control, first)
        self._thread.start()

    def _attend(self) -> None:
        try:
            self._status = self._launcher.run(self._spec, self._hear, self._killed.is_set, stdin=self._input)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        with self._changed:
            self._changed.notify_all()

    def _hear(self, data: bytes) -> None:
        with self._changed:
            self._said = (self._said + data)[-_TAIL:]
            self._changed.notify_all()

    def await_ready(self, cancelled: Callable[[], bool]) -> None:
        """Until it says that it answers. Raises StepError `service.not-started`, KeyboardInterrupt when cancelled."""
        if self._ready == b"\n":
            return
        deadline = time.monotonic() + READY_SECONDS
        with self._changed:
            while not (self._said.startswith(self._ready) or b"\n" + self._ready in self._said):
                if self._has_ended():
                    raise self._failure("service.not-started", "did not start")
                if cancelled():
                    raise KeyboardInterrupt
                if time.monotonic() > deadline:
                    raise self._failure("service.not-started", f"does not answer after {READY_SECONDS:.0f} s")
                self._changed.wait(_WAKE_SECONDS)

    def stop(self, cancelled: Callable[[], bool]) -> None:
        """Ask it to end and wait until it has. Raises StepError `service.failed` where it doesn't end well."""
        if self._has_ended():
            raise self._failure("service.failed", "ended by itself")
        self._end_input()
        deadline = time.monotonic() + STOP_SECONDS
        with self._changed:
            while not self._has_ended():
                if cancelled():
                    raise KeyboardInterrupt
                if time.monotonic() > deadline:
                    raise self._failure("service.failed", f"was not stopped after {STOP_SECONDS:.0f} s")
                self._changed.wait(_WAKE_SECONDS)
        if self._error is not None or self._status is None or self._status.code:
            raise self._failure("service.failed", "did not end well")

    def said(self) -> bytes:
        """The end of what it wrote, without the line by which it said that it answers."""
        with self._changed:
            lines = self._said.splitlines(keepends=True)
        return b"".join(line for line in lines if line != self._ready)

    def close(self) -> None:
        """Kill what still runs."""
        self._killed.set()
        self._end_input()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._input)

    def _end_input(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _has_ended(self) -> bool:
        return self._status is not None or self._error is not None

    def _failure(self, code: str, what: str) -> BaseException:
        if self._error is not None:
            return self._error
        said = self._said.decode(errors="replace").strip()
        status = self._status.code if self._status else 1
        return StepError(code, f"{self._name} {what}" + (f":\n{said}" if said else ""), status=status, tail=said)


@contextmanager
def serve(launcher: Launcher, name: str, spec: SandboxSpec, ready: str, first: bytes) -> Iterator[RunningService]:
    """Start a service; whatever happens, it is gone afterwards."""
    service = RunningService(launcher, name, spec, ready)
    try:
        service.start(first)
        yield service
    finally:
        service.close()
