"""The Protocols between the rooms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from boxwright.events import Event
from boxwright.model.canonical import Value
from boxwright.model.change import Difference, Draft, Groups, Located
from boxwright.model.digest import Digest
from boxwright.model.image import ImageConfig, Snapshot
from boxwright.model.span import Span
from boxwright.model.step import Base, Step
from boxwright.model.tree import DirectoryObject, Entry, Manifest

if TYPE_CHECKING:
    from pathlib import Path

Emit = Callable[[Event], None]


class ResolvedBase(NamedTuple):
    """What FROM means: where the tree comes from, and its configuration. `shown` says it to a person."""

    step: Base
    config: ImageConfig
    shown: str


class Resolver(Protocol):
    """What a frontend may ask of the world. Answers are recorded, so that a graph can be made again."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """What `name` means as a base. Raises FetchError or DefinitionError at `where`."""
        ...

    def recipe(self, name: str) -> tuple[str, str]:
        """A recipe that comes with the program (below ``images/``): its text and its path."""
        ...


class TreeFile(NamedTuple):
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


class LayerReader(TreeReader, Protocol):
    """Reads snapshots and what is between two of them: the store."""

    def entries(self, full: str) -> Mapping[str, Entry]:
        """The entries of a directory object, by name. Raises StoreError where it is not here or damaged."""
        ...

    def root(self, manifest: Manifest) -> Entry:
        """The root directory's own entry."""
        ...

    def links(self, manifest: Manifest) -> Groups:
        """The groups of hard links, each with its paths; the first is the one that holds the content."""
        ...

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        """Where the bytes of `path` lie."""
        ...


class Bind(NamedTuple):
    """A path of the host that a sandbox sees at `target`. `target` is made where it is missing."""

    source: str
    target: str
    read_only: bool = True


class Tmpfs(NamedTuple):
    """A fresh tmpfs at `target`. `size` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0
    mode: int = 0o1777


class TreeMount(NamedTuple):
    """A directory or file of a recorded tree at `target`. `source` is its path in the tree, free of symbolic links.

    `lowers` as in SandboxSpec. It can be written where `upper` and `work` (absolute) are given.
    """

    lowers: tuple[str, ...]
    source: str
    target: str
    is_directory: bool = True
    upper: str = ""
    work: str = ""


class SecretFile(NamedTuple):
    """A file at `target` that lies in memory alone and can only be read."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


SandboxMount = Bind | Tmpfs | TreeMount | SecretFile


class SandboxSpec(NamedTuple):
    """Everything a sandboxed process is given.

    `layers_directory` is the working directory of the overlay mount and `lowers` names relative to it, the topmost
    first; `upper` and `work` are absolute, or empty for a read-only tree. `network`: none, default, host, or
    ``netns:PATH``. `user` as in an image's configuration, looked up inside the tree. `stdin` is given to the process;
    `terminal` makes a pseudo-terminal of standard input, output and error. `cgroup_parent` is a control group below
    which the processes get one of their own.
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
    mounts: tuple[SandboxMount, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 64 << 20
    time_limit: float = 0.0
    cgroup_parent: str = ""


class Detached(NamedTuple):
    """A sandbox that outlives this process.

    The host's id of its first process, mount points made in its layer, and its terminal's controlling side or -1.
    """

    pid: int
    made: tuple[tuple[str, bool], ...] = ()
    terminal: int = -1


class ExitStatus(NamedTuple):
    """How a sandboxed process ended: `code` 0 to 255 (128 + signal when killed by one).

    `server` names who ran it where that was not this machine; it may have `found` the result of an earlier run.
    """

    code: int
    timed_out: bool = False
    server: str = ""
    found: bool = False


class Sandbox(Protocol):
    """Runs one process in a tree."""

    def run(self, spec: SandboxSpec, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
        """Run it to its end, handing on what it writes. Raises MachineError when the sandbox can't be made."""
        ...


class ActionSpec(NamedTuple):
    """What the sandbox of a package build is given: a read-only tree, no network, a user of its own.

    `layers_directory` and `lowers` as in SandboxSpec. `work` becomes /build, empty where there is none; `mount` is an
    empty directory for the tree. `read_only` are paths of the host and where they are seen. `snapshots` are those that
    `lowers` show, the topmost first, and `output` the one file that counts, below /build: with both the action can be
    run elsewhere too.
    """

    layers_directory: str
    lowers: tuple[str, ...]
    work: str
    mount: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    read_only: tuple[tuple[str, str], ...] = ()
    cwd: str = "/build"
    interactive: bool = False
    new_root: bool = False
    snapshots: tuple[Snapshot, ...] = ()
    output: str = ""


class RunningService(Protocol):
    """A service that was started; it is killed where it is not stopped."""

    def await_ready(self, cancelled: Callable[[], bool]) -> None:
        """Until it says that it answers. Raises StepError `service.not-started`, KeyboardInterrupt when cancelled."""
        ...

    def stop(self, cancelled: Callable[[], bool]) -> None:
        """Ask it to end and wait until it has. Raises StepError `service.failed` where it doesn't end well."""
        ...

    def said(self) -> bytes:
        """The end of what it wrote, without the line by which it said that it answers."""
        ...


class ServiceHost(Protocol):
    """Runs services beside steps."""

    def network(self, kind: str, security: str) -> AbstractContextManager[str]:
        """A network of this kind for several sandboxes at once, as `SandboxSpec.network` names it."""
        ...

    def serve(self, name: str, spec: SandboxSpec, ready: str, first: bytes) -> AbstractContextManager[RunningService]:
        """Start a service with `first` on its standard input; `ready` is the line by which it says that it answers."""
        ...


class WriteRequest(NamedTuple):
    """An output: `kind` of format, `destination` path, and what names it. `manifest` is that of an ACI."""

    kind: str
    destination: Path
    name: str
    options: Mapping[str, str] = MappingProxyType({})
    manifest: str = ""


class EngineCommand(NamedTuple):
    """A command in a build container. `user` as in an image's configuration, looked up inside the container."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str = "/"
    user: str = ""


class ContainerShape(NamedTuple):
    """What a build container is made with and keeps for its life. `network`: default, none or host."""

    network: str = "default"
    mounts: tuple[SandboxMount, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()


class SeenPath(NamedTuple):
    """What stands at a path of a build container: `kind` is file, directory, symlink (to `target`) or other."""

    kind: str
    target: str = ""


class BuildContainer(Protocol):
    """One build container that runs. Every method raises BoxwrightError; a container that failed is only removed."""

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        """Run a command to its end, handing on what it writes; its exit status. KeyboardInterrupt when cancelled."""
        ...

    def look(self, path: str) -> SeenPath | None:
        """What is at `path` (absolute); a symbolic link at its end is not followed. None where nothing is."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small file's bytes; None where there is none."""
        ...

    def put(self, archive: str) -> None:
        """Lay the members of a tar (a path of this machine) below the root. No member's path leads over a link."""
        ...

    def commit(self, state: str) -> None:
        """Keep the tree as it is now, under this name."""
        ...

    def remove(self) -> None:
        """Stop and remove it. States that were committed stay."""
        ...


class BuildEngine(Protocol):
    """What runs build containers and keeps their states. Names of states are short, of letters, digits and dashes."""

    name: str
    is_local: bool

    def states(self) -> set[str]:
        """The states that it holds."""
        ...

    def load(self, state: str, archive: str) -> None:
        """Keep the tree of a tar (a path of this machine) under this name."""
        ...

    def start(self, state: str, shape: ContainerShape) -> BuildContainer:
        """A container of a state; it is gone again where that fails. Raises BoxwrightError."""
        ...

    def fetch(self, state: str, archive: str) -> str:
        """Write a state's tree as a tar to a new file; returns the prefix below which it stands there."""
        ...

    def forget(self, states: Collection[str]) -> None:
        """Remove states; those that are not there are no error."""
        ...

    def sweep(self, owner: str = "") -> int:
        """Remove the containers of processes that have ended, or those of `owner`; how many there were."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class EngineRoom(Protocol):
    """The build containers of one build."""

    name: str

    def has(self, state: str) -> bool:
        """Whether the engine holds a state."""
        ...

    def load(self, state: str, archive: Callable[[], str]) -> None:
        """Give the engine a tree, unless it has it."""
        ...

    def held(self, state: str, shape: ContainerShape) -> AbstractContextManager[BuildContainer]:
        """A container in this state for one step; what it committed last is the state of which it is one then."""
        ...

    def fetch(self, state: str, archive: str) -> str:
        """As BuildEngine.fetch."""
        ...


class Workspace(Protocol):
    """What steps need of the store."""

    def entries(self, full: str) -> Mapping[str, Entry]:
        """The entries of a directory object, by name. Raises StoreError where it is not here or damaged."""
        ...

    def put(self, directory: DirectoryObject) -> DirectoryObject:
        """Keep a directory object."""
        ...

    def has(self, full: str) -> bool:
        """Whether a directory object is here."""
        ...

    def root(self, manifest: Manifest) -> Entry:
        """The root directory's own entry."""
        ...

    def locate(self, manifest: Manifest, path: str, *, follow: bool = True) -> Located:
        """Follow `path` inside the tree, never out of it; the last symbolic link only if `follow`."""
        ...

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        """Where the bytes of `path` lie."""
        ...

    def snapshot(self, key: Digest) -> Snapshot | None:
        """What is recorded under `key`."""
        ...

    def by_content(self, content: Digest) -> Snapshot | None:
        """Some snapshot of this very content."""
        ...

    def by_full(self, full: Digest) -> Snapshot | None:
        """Some snapshot of this very tree, times included."""
        ...

    def draft(self, parent: Snapshot | None) -> AbstractContextManager[Draft]:
        """A place for a new layer on top of `parent`; what was not committed is gone afterwards."""
        ...

    def commit(
        self,
        key: Digest,
        parent: Snapshot | None,
        draft: Draft,
        *,
        newest: int | None,
        difference: Difference | None = None,
    ) -> Snapshot:
        """Record a draft on top of `parent`. `newest` (seconds) is what later times are set back to, None keeps them.

        Without `difference` the draft's upper directory is read.
        """
        ...

    def alias(self, key: Digest, snapshot: Snapshot) -> Snapshot:
        """Record an existing snapshot under another key."""
        ...

    def last_copy(self, slot: str) -> tuple[Digest, str] | None:
        """The newest COPY of this place: its key, and what it was made of."""
        ...

    def keep_copy(self, slot: str, key: Digest, sources: str) -> None:
        """Remember a COPY."""
        ...


class ContextTree(NamedTuple):
    """A build context as it was read: `link` names its tree (as a directory's entry does), `started` is when.

    `started` is in nanoseconds since 1970: a file whose status did not change later is still what was read.
    """

    directory: str
    link: str
    started: int


class PathRules(Protocol):
    """Patterns on the paths of a tree."""

    def ignored(self, path: str) -> bool:
        """Whether they match `path`, or a directory above it that no exception below brings back."""
        ...


class Contexts(Protocol):
    """The build contexts of this build; ``""`` is the main one."""

    def tree(self, name: str) -> ContextTree:
        """The context `name`, read once."""
        ...

    def matcher(self, patterns: tuple[str, ...]) -> PathRules:
        """What tells which paths patterns match that are written as in .dockerignore. Raises DefinitionError."""
        ...


class CacheWanted(NamedTuple):
    """A cache mount's directory: `sharing` is shared, private or locked; a new one gets `mode`, `uid` and `gid`.

    `seed` is what a new one holds: a path, free of symbolic links, in a snapshot.
    """

    name: str
    sharing: str = "shared"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    seed: tuple[Snapshot, str] | None = None


class Caches(Protocol):
    """The directories of cache mounts, kept between builds."""

    def held(
        self, wanted: Sequence[CacheWanted], cancelled: Callable[[], bool]
    ) -> AbstractContextManager[tuple[str, ...]]:
        """Their directories, locked as their sharing says. Raises KeyboardInterrupt when cancelled while waiting."""
        ...


class Secrets(Protocol):
    """The secrets of this build."""

    def value(self, name: str) -> bytes | None:
        """The secret, None where it was not given."""
        ...

    def counted(self, name: str) -> str | None:
        """What stands for the secret in a key: a keyed hash; None where secrets don't count."""
        ...


class Agents(Protocol):
    """The SSH agents of this build."""

    def socket(self, name: str, mode: int, uid: int, gid: int) -> AbstractContextManager[str | None]:
        """The path of a socket to the agent, as long as the context lasts; None where there is no such agent."""
        ...


Fields = tuple[tuple[str, Value], ...]
"""What a step's key is a digest of, by name, so that two keys can be compared in words."""


class StepInputs(NamedTuple):
    """What a node stands on. `states` identify the inputs, `snapshots` are what they left; None while not known.

    `definition` is the node's own definition key, of kinds that have one.
    """

    states: tuple[Digest | None, ...]
    snapshots: tuple[Snapshot | None, ...]
    definition: Digest | None = None


class StepControl(NamedTuple):
    """What a running step is given beside its inputs.

    `epoch` is the build's one time (SOURCE_DATE_EPOCH) in seconds; `keep_times` leaves times as steps made them.
    `placed` is told which server ran the step, and whether it had the result already.
    """

    epoch: int
    keep_times: bool
    output: Callable[[bytes], None]
    cancelled: Callable[[], bool]
    placed: Callable[[str, bool], None] = lambda *_: None

    @property
    def newest(self) -> int | None:
        """The latest time that a step may leave behind."""
        return None if self.keep_times else self.epoch


class StepKind(Protocol):
    """One kind of step: what is my key, and run me."""

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """What the key is a digest of; None while an input that decides it has not been built."""
        ...

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Do it and record the result under `key`."""
        ...

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """What identifies the result in the keys of later steps: the key, or the content where that is known."""
        ...
