"""The sandbox of one build, started only when a step runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from boxwright.errors import MachineError
from boxwright.ports import ExitStatus, SandboxSpec

if TYPE_CHECKING:
    from boxwright.sandbox.launcher import Launcher
    from boxwright.sandbox.service import RunningService


class LateSandbox:
    """`start` must be called while the process has one thread, since the launcher is forked."""

    def __init__(self, cache: str) -> None:
        self._cache = cache
        self._launcher: Launcher | None = None

    def start(self) -> Launcher:
        """Fork the launcher."""
        if self._launcher is None:
            from pathlib import Path

            from boxwright.sandbox.launcher import Launcher

            self._launcher = Launcher.start(Path(self._cache))
        return self._launcher

    def close(self) -> None:
        """End the launcher and what it runs."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    def run(self, spec: SandboxSpec, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
        """Run one process to its end."""
        return self._started().run(spec, output, cancelled)

    def network(self, kind: str, security: str) -> AbstractContextManager[str]:
        """A network for several sandboxes at once."""
        return self._started().network(kind, security)

    def serve(self, name: str, spec: SandboxSpec, ready: str, first: bytes) -> AbstractContextManager[RunningService]:
        """Start a service."""
        from boxwright.sandbox.service import serve

        return serve(self._started(), name, spec, ready, first)

    def _started(self) -> Launcher:
        if self._launcher is None:
            raise MachineError("sandbox.not-started", "the launcher was not started")
        return self._launcher
