"""What the launcher's processes say to each other: requests, reports, and failures that cross the socket."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TypeAlias

from boxwright.errors import BoxwrightError, MachineError, StepError
from boxwright.ports import SandboxSpec


class SandboxError(Exception):
    """A sandbox can't be made. `fault` says whose: ``machine``, or ``step`` where what was asked for is wrong."""

    def __init__(self, code: str, message: str, *, hint: str = "", fault: str = "machine") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fault = fault


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Run a spec. Its descriptors: standard input, output, error, and the network namespace if it is made already.

    `skeleton` is the lowest layer, which holds the mount points; `root` a directory to mount the tree on; `stage` where
    /proc and /dev were prepared; `resolver` the text of /etc/resolv.conf. Binds of `spec` have real paths as sources.
    `cgroups` are directories of control groups that the process moves into.
    """

    spec: SandboxSpec
    skeleton: str
    root: str
    stage: str
    resolver: str
    user_namespace: bool
    detached: bool = False
    cgroups: tuple[str, ...] = ()


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
    """Make a network namespace and run `command` beside it; ``{netns}`` in it is the namespace's path below `root`."""

    root: str
    command: tuple[str, ...]
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A detached sandbox is made. Its program waits for a GO, so that somebody knows of it before it runs."""


Report: TypeAlias = Exited | Failed | Made | Terminal | Ready | Prepared
GO = b"G"
KILL = b"K"
# Kinds of message to the launcher: an attached run may be given to a process that waits for one.
ATTACHED_RUN = b"R"
OTHER = b"O"


def encode(message: Request | Report) -> bytes:
    """As bytes; both ends are one program, forked from one process, so that pickle is safe here."""
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def decode_request(data: bytes) -> Request:
    """What `encode` was given."""
    message: Request = pickle.loads(data)  # noqa: S301  see encode
    return message


def decode_report(data: bytes) -> Report:
    """What `encode` was given."""
    message: Report = pickle.loads(data)  # noqa: S301  see encode
    return message
