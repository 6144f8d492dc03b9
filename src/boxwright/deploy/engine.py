"""What a deployment asks of an engine. What is deployed stands in the engine alone: nothing is remembered elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

from boxwright.model.deployment import Desired, NetworkSpec, NewInstance, Observed, VolumeSpec
from boxwright.model.volumes import GuardNote, VolumeSnapshot


class Executed(NamedTuple):
    """How a command in an instance ended, and what it wrote."""

    status: int
    output: bytes


class State(NamedTuple):
    """What an instance does: running, stopped, created or lost (no such instance)."""

    state: str
    exit_code: int | None = None


class DeployEngine(Protocol):
    """One engine, or one cluster of engines. Methods may be called from several threads.

    Names of instances are whole (``shop-web-1-g2``), those of networks and volumes are as the stack has them. What
    should be removed and is not there is no error: an interrupted deployment is begun again.
    """

    name: str

    def makes_beside(self, network: NetworkSpec) -> bool:
        """Whether instances can be made while this network is: it must be there before one is started."""
        ...

    def machine(self) -> str:
        """The kind of machine that instances run on, as uname(2) names it."""
        ...

    def lacks(self, desired: Desired) -> Sequence[str]:
        """What of a stack this engine does without, in words; asked before anything changes.

        Raises BoxwrightError `deploy.engine-lacks` where the stack would not work at all.
        """
        ...

    def home(self) -> str:
        """The member of a cluster that this process runs on; empty where it runs on none."""
        ...

    def hosts(self) -> int:
        """How many machines it has: 1, or the members of a cluster."""
        ...

    def stacks(self) -> Sequence[str]:
        """The names of all stacks that are there."""
        ...

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed, waited for `patience` seconds. Raises BoxwrightError `deploy.busy`."""
        ...

    def observe(self, stack: str) -> Observed:
        """What is there of a stack."""
        ...

    def state(self, instance: str) -> State:
        """What an instance does now."""
        ...

    def provide_image(self, identity: str, name: str) -> None:
        """See that instances can be made of an image of the store."""
        ...

    def drop_images(self, stack: str, identities: Sequence[str]) -> Collection[str]:
        """A stack does not need them any more. Returns those that are gone: what runs elsewhere may keep some."""
        ...

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """Make a network; its subnet is given."""
        ...

    def delete_network(self, stack: str, name: str) -> None:
        """Remove it."""
        ...

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Make a volume."""
        ...

    def grow_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Let it have its new size. Asked where `observe` tells what size it has."""
        ...

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content, its snapshots and its copies."""
        ...

    def delete_stale(self, stack: str, name: str, member: str) -> None:
        """Remove what a member has of older generations of a volume."""
        ...

    def promote_copy(self, stack: str, name: str, lost: str, member: str) -> None:
        """Let the copy on `member` take the place of a volume on a member that is `lost`.

        Raises BoxwrightError `deploy.taken` where somebody else has done so, or it is not there any more.
        """
        ...

    def copy_volume(self, stack: str, name: str, member: str) -> None:
        """Bring the copy on another member up to date. For one process at a time: see `copying`.

        It takes the stack's lock at its end.
        """
        ...

    def drop_copy(self, stack: str, name: str, member: str) -> None:
        """Remove the copy on a member; likewise."""
        ...

    def copying(self, stack: str, patience: float = 0.0) -> AbstractContextManager[None]:
        """Held while volumes are copied, snapshots are taken, and either is put in a volume's place.

        The stack may be changed meanwhile; who needs its lock too takes that after this. Raises BoxwrightError
        `deploy.busy`.
        """
        ...

    def guard(
        self, stack: str, seconds: float, grace: float, tell: Callable[[str, str], None]
    ) -> AbstractContextManager[Callable[[Collection[str]], None] | None]:
        """Held by a `watch`: stop this member's own instances after `seconds` without quorum, kill them `grace` later.

        Gives what is told which containers are meant; None where nobody else could start them.
        """
        ...

    def unreachable(self) -> Collection[str]:
        """Members of a cluster that don't answer who asks from here, whatever the cluster says of them."""
        ...

    def guards(self, stack: str) -> Mapping[str, GuardNote]:
        """Members on which a `watch` stops instances when there is no quorum, as it has written down there."""
        ...

    def snapshots(self, stack: str, volume: str) -> Sequence[VolumeSnapshot]:
        """Those of a volume, the oldest first."""
        ...

    def take_snapshot(self, stack: str, volume: str, name: str) -> None:
        """Take one. Raises BoxwrightError `volume.exists` where there is one of this name."""
        ...

    def restore_snapshot(self, stack: str, volume: str, name: str) -> None:
        """Make the volume what it was then; nothing that mounts it runs."""
        ...

    def delete_snapshot(self, stack: str, volume: str, name: str) -> None:
        """Remove it."""
        ...

    def write_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """Write the volume's content as this engine's tools know it."""
        ...

    def read_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """Make the volume what `write_backup` wrote; nothing that mounts it runs.

        Raises BoxwrightError `volume.backup` where that is none; nothing is changed then.
        """
        ...

    def create(self, new: NewInstance) -> None:
        """Make an instance without starting it. What an interrupted attempt left under this name is replaced."""
        ...

    def start(self, instance: str) -> None:
        """Start it. Raises BoxwrightError where its program can't be started."""
        ...

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        ...

    def delete(self, instance: str) -> None:
        """Remove it, running or not."""
        ...

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Executed:
        """Run a command in a running instance as root; `stdin` is all that it can read."""
        ...

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        """The same on this process's own streams; returns its exit status."""
        ...

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote; goes on while `follow` says so and it runs."""
        ...

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        """Send this to a TCP port of a running instance: the first line of what comes back, or more. Raises OSError.

        Without a request it only connects.
        """
        ...

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        """Replace a file that a running instance was given, with this mode."""
        ...

    def publish_names(self, stack: str, hosts: str) -> None:
        """Make `hosts` the /etc/hosts of all of a stack's instances."""
        ...

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name; no instance can read it."""
        ...

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name, or with None remove it."""
        ...

    def write_documents(self, stack: str, documents: Mapping[str, bytes | None]) -> None:
        """The same for several, at once where the engine can."""
        ...

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the documents of a stack that is no more; its secrets stay where its volumes do."""
        ...
