"""What the launcher's processes say to each other: requests, reports, and failures that cross the socket."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TypeAlias

from boxwright.errors import BoxwrightError, MachineError, StepError
from boxwright.ports import SandboxSpec


class SandboxFailure(Exception):
    """A sandbox can't be made. `fault` says whose: ``machine``, or ``step`` where what was asked for is wrong."""

    def __init__(self, code: str, message: str, *, hint: str = "", fault: str = "machine") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fault = fault


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Run a spec. Its descriptors are, in this order: standard input, output, error, and the network namespace.

    `skeleton` is the lowest layer, which holds the mount points; `resolver` the text of /etc/resolv.conf; `binds` the
    mounts whose sources were resolved. Descriptors that aren't there are missing at the end.
    """

    spec: SandboxSpec
    skeleton: str
    root: str
    resolver: str
    user_namespace: bool
    detached: bool = False
    session_leader: bool = True


@dataclass(frozen=True, slots=True)
class EnterRequest:
    """Run a further process in a running sandbox, whose first process is `pid`."""

    pid: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    security: str = "sandbox"
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """Make a network namespace with a user-mode network, whose program is `command` (``{netns}`` stands for its path)."""

    command: tuple[str, ...]
    interface: str
    detached: bool = False


Request: TypeAlias = RunRequest | EnterRequest | NetworkRequest


@dataclass(frozen=True, slots=True)
class Exited:
    """The first process is gone, and with it every other one. `status` as waitpid(2) gives it."""

    status: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The sandbox could not be made."""

    code: str
    message: str
    hint: str
    fault: str

    def error(self) -> BoxwrightError:
        """The same as an exception of the program."""
        if self.fault == "step":
            return StepError(self.code, self.message, status=1)
        return MachineError(self.code, self.message, hint=self.hint)


@dataclass(frozen=True, slots=True)
class Made:
    """Paths in the tree that were made to be mounted on, parents first; `is_directory` beside each."""

    paths: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Terminal:
    """The controlling side of the sandbox's terminal comes with this message."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A network namespace comes with this message, or a detached process has this id on the host."""

    pid: int = 0


Report: TypeAlias = Exited | Failed | Made | Terminal | Ready
KILL = b"K"


def encode(message: Request | Report) -> bytes:
    """As bytes; both ends are one program, forked from one process, so that pickle is safe here."""
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def decode(data: bytes) -> Request | Report:
    """What `encode` was given."""
    message: Request | Report = pickle.loads(data)  # noqa: S301  see encode
    return message
