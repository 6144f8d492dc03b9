"""The Protocols between the rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from boxwright.events import Event
from boxwright.model.image import ImageConfig, Snapshot
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.model.tree import Entry

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """What FROM means: where the tree comes from, and its configuration. `shown` says it to a person."""

    step: Base
    config: ImageConfig
    shown: str


class Resolver(Protocol):
    """What a frontend may ask of the world. Answers are recorded, so that a graph can be made again."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """What `name` means as a base. Raises FetchError or DefinitionError at `where`."""
        ...


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One path of a snapshot: `path` from the root without a leading slash (``""`` is the root).

    `entry` is what the manifest says (owners and attributes as the container sees them); `physical` is where its bytes
    are read, None where there are none.
    """

    path: str
    entry: Entry
    physical: str | None


class TreeReader(Protocol):
    """Reads snapshots: the store."""

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path, parents first, each directory's children in the order of their names' bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of the host that a sandbox sees at `target`. `target` is made where it is missing."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A fresh tmpfs at `target`. `size` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0
    mode: int = 0o1777


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Everything a sandboxed process is given.

    `layers_directory` is the working directory of the overlay mount and `lowers` names relative to it, the topmost
    first; `upper` and `work` are absolute, or empty for a read-only tree. `network`: none, default, host, or
    ``netns:PATH``. `user` as in an image's configuration, looked up inside the tree. `stdin` is given to the process;
    `terminal` makes a pseudo-terminal of standard input, output and error.
    """

    layers_directory: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str = "/"
    user: str = ""
    hostname: str = "boxwright"
    network: str = "default"
    security: str = "sandbox"
    stdin: bytes = b""
    terminal: bool = False
    init: bool = False
    mounts: tuple[Bind | Tmpfs, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 64 << 20
    time_limit: float = 0.0


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a sandboxed process ended: `code` 0 to 255 (128 + signal when killed by one)."""

    code: int
    timed_out: bool = False


class Sandbox(Protocol):
    """Runs one process in a tree."""

    def run(self, spec: SandboxSpec, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
        """Run it to its end, handing on what it writes. Raises MachineError when the sandbox can't be made."""
        ...


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """An output: `kind` of format, `destination` path, and what names it."""

    kind: str
    destination: Path
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
