"""An engine that keeps its instances in memory, and can be killed at any of its operations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from typing import BinaryIO

from boxwright.deploy.engine import Executed, State
from boxwright.deploy.placing import share_port
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    ABSENT,
    CREATED,
    LOST,
    RUNNING,
    STOPPED,
    Desired,
    Instance,
    Member,
    Network,
    NetworkSpec,
    NewInstance,
    Observed,
    VolumeSpec,
    labelled_instance,
)
from boxwright.model.volumes import GuardNote, VolumeCopy, VolumeSnapshot, VolumeState


class KilledError(BaseException):
    """The program is gone: nothing of it may run any more."""


class MemoryEngine:
    """What it holds survives the program that uses it."""

    name = "memory"

    def __init__(self, *, makes_beside: bool = False) -> None:
        self._beside = makes_beside
        self.instances: dict[str, tuple[NewInstance, str]] = {}
        self.networks: dict[str, str] = {}
        self.internal: set[str] = set()
        self.held: tuple[str, ...] = ()
        self.volumes: set[str] = set()
        self.documents: dict[str, bytes] = {}
        self.names = ""
        self.members: tuple[Member, ...] = ()
        self.member = ""
        self.promised = 0.0
        self.absent: set[str] = set()
        self.started: dict[str, float] = {}
        self.calls = 0
        self.killed_at = -1
        self.unwell: set[str] = set()
        self.ended: dict[str, int] = {}
        """With which status instances have ended, by their image before they are started, or by their name."""
        self.log: list[str] = []
        self.states: dict[str, VolumeState] = {}
        self.taken: dict[str, tuple[VolumeSnapshot, ...]] = {}
        self.places: dict[str, str] = {}
        self.unreached: tuple[str, ...] = ()
        self.guarding: dict[str, float] = {}
        self.executed: list[tuple[str, ...]] = []
        self._lock = threading.RLock()

    def _call(self, what: str) -> None:
        """One operation; from the one at which it is killed nothing happens any more."""
        with self._lock:
            self.calls += 1
            if 0 <= self.killed_at < self.calls:
                raise KilledError(what)
            self.log.append(what)

    def machine(self) -> str:
        return "x86_64"

    def lacks(self, desired: Desired) -> Sequence[str]:
        return ()

    def hosts(self) -> int:
        return max(1, len(self.members))

    def stacks(self) -> Sequence[str]:
        return tuple({new.stack for new, _ in self.instances.values()})

    @contextmanager
    def lock(self, stack: str, patience: float) -> Iterator[None]:
        yield

    def observe(self, stack: str) -> Observed:
        with self._lock:
            found = [self._instance(name) for name in self.instances]
            networks = tuple(Network(it, subnet, True, it in self.internal) for it, subnet in self.networks.items())
            states = tuple(self.states.values())
            places = tuple((it.name, it.member) for it in states)
            volumes = tuple(self.volumes)
            return Observed(tuple(found), networks, volumes, self.held, self.members, places, states, self.held)

    def _instance(self, name: str) -> Instance:
        new, state = self.instances[name]
        instance = labelled_instance(name, dict(new.labels), state)
        assert instance is not None
        instance = instance._replace(exit_code=self.state(name).exit_code)
        member = self.places.get(name, new.member)
        if member in self.absent:
            instance = instance._replace(state=ABSENT, spec=None, hash="")
        return instance._replace(member=member, started=self.started.get(name, 0.0))

    def state(self, instance: str) -> State:
        with self._lock:
            state = self.instances[instance][1] if instance in self.instances else LOST
            return State(state, self.ended.get(instance) if state == STOPPED else None)

    def provide_image(self, identity: str, name: str) -> None:
        self._call("image")

    def makes_beside(self, network: NetworkSpec) -> bool:
        del network
        return self._beside

    def drop_images(self, stack: str, identities: Sequence[str]) -> Collection[str]:
        self._call("images")
        return identities

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        self._call(f"create network {spec.name}")
        assert spec.subnet
        subnet = IPv4Network(spec.subnet)
        if any(subnet.overlaps(IPv4Network(it)) for it in (*self.networks.values(), *self.held)):
            raise BoxwrightError("deploy.engine-failed", f"{spec.subnet} is taken")
        self.networks[spec.name] = spec.subnet
        self.internal.add(spec.name) if spec.internal else self.internal.discard(spec.name)

    def delete_network(self, stack: str, name: str) -> None:
        self._call(f"delete network {name}")
        users = [it for it, (new, _) in self.instances.items() if name in dict(new.addresses)]
        assert not users, f"{users} still use {name}"
        self.networks.pop(name, None)

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        self._call(f"create volume {spec.name}")
        self.volumes.add(spec.name)

    def grow_volume(self, stack: str, spec: VolumeSpec) -> None:
        self._call(f"grow volume {spec.name}")
        self.states[spec.name] = self.states[spec.name]._replace(size=spec.size)

    def delete_volume(self, stack: str, name: str) -> None:
        self._call(f"delete volume {name}")
        self.volumes.discard(name)

    def delete_stale(self, stack: str, name: str, member: str) -> None:
        self._call(f"delete stale {name} on {member}")
        stale = tuple(it for it in self.states[name].stale if it != member)
        self.states[name] = self.states[name]._replace(stale=stale)

    def promote_copy(self, stack: str, name: str, lost: str, member: str) -> None:
        self._call(f"promote {name} on {member}")
        state = self.states[name]
        assert state.member == lost
        moment = next(it.time for it in state.copies if it.member == member)
        self.states[name] = state._replace(
            member=member, generation=state.generation + 1, copied=moment, stale=(*state.stale, lost)
        )

    def copy_volume(self, stack: str, name: str, member: str) -> None:
        self._call(f"copy {name} to {member}")
        state = self.states[name]
        others = tuple(it for it in state.copies if it.member != member)
        self.states[name] = state._replace(copies=(*others, VolumeCopy(member, time.time())))

    def drop_copy(self, stack: str, name: str, member: str) -> None:
        self._call(f"drop {name} on {member}")
        state = self.states[name]
        self.states[name] = state._replace(copies=tuple(it for it in state.copies if it.member != member))

    @contextmanager
    def copying(self, stack: str, patience: float = 0.0) -> Iterator[None]:
        yield

    @contextmanager
    def guard(
        self, stack: str, seconds: float, grace: float, tell: Callable[[str, str], None]
    ) -> Iterator[Callable[[Collection[str]], None] | None]:
        yield None

    def home(self) -> str:
        return self.member

    def unreachable(self) -> Collection[str]:
        return self.unreached

    def guards(self, stack: str) -> dict[str, GuardNote]:
        until = time.time() + self.promised
        return {name: GuardNote(seconds, until) for name, seconds in self.guarding.items()}

    def snapshots(self, stack: str, volume: str) -> Sequence[VolumeSnapshot]:
        return self.taken.get(volume, ())

    def take_snapshot(self, stack: str, volume: str, name: str) -> None:
        self._call(f"snapshot {volume}")
        self.taken[volume] = (*self.taken.get(volume, ()), VolumeSnapshot(name, time.time()))

    def restore_snapshot(self, stack: str, volume: str, name: str) -> None:
        self._call(f"restore {volume}")
        running = [new for new, state in self.instances.values() if state == RUNNING]
        assert not any(mount.source == volume for new in running for mount in new.spec.mounts)

    def delete_snapshot(self, stack: str, volume: str, name: str) -> None:
        self._call(f"delete snapshot {volume}")
        self.taken[volume] = tuple(it for it in self.taken[volume] if it.name != name)

    def write_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        raise NotImplementedError

    def read_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        raise NotImplementedError

    def create(self, new: NewInstance) -> None:
        with self._lock:
            self._call(f"create {new.name}")
            assert self.state(new.name).state != RUNNING
            taken = {
                address for other, (it, _) in self.instances.items() if other != new.name for _, address in it.addresses
            }
            assert not taken.intersection(address for _, address in new.addresses)
            assert self._beside or self._is_linked(new)
            self.instances[new.name] = (new, CREATED)

    def _is_linked(self, new: NewInstance) -> bool:
        return all(network in self.networks for network, _ in new.addresses)

    def start(self, instance: str) -> None:
        with self._lock:
            self._call(f"start {instance}")
            new = self.instances[instance][0]
            assert self._is_linked(new)
            held = {mount.source for mount in new.spec.mounts if mount.kind == "volume"}
            for other, (it, state) in self.instances.items():
                if other != instance and state == RUNNING:
                    used = {mount.source for mount in it.spec.mounts if mount.kind == "volume"}
                    assert not held & used, f"{other} and {instance} would use one volume"
                    assert not share_port(it.spec, new.spec), f"{other} and {instance} would have one port"
            if new.spec.image in self.unwell:
                self.instances[instance] = (new, STOPPED)
                raise BoxwrightError("run.failed", f"{instance} can't be started")
            self.instances[instance] = (new, RUNNING)
            if new.spec.image in self.ended:
                self.end(instance, self.ended[new.spec.image])

    def end(self, instance: str, status: int) -> None:
        """Its program ends by itself."""
        self.instances[instance] = (self.instances[instance][0], STOPPED)
        self.ended[instance] = status

    def stop(self, instance: str, seconds: float) -> None:
        with self._lock:
            self._call(f"stop {instance}")
            if instance in self.instances:
                self.instances[instance] = (self.instances[instance][0], STOPPED)

    def delete(self, instance: str) -> None:
        self._call(f"delete {instance}")
        self.instances.pop(instance, None)

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Executed:
        self._call(f"execute {instance}")
        self.executed.append(tuple(argv))
        return Executed(0, b"")

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        raise NotImplementedError

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        yield b""

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        return b""

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        del mode
        self._call(f"put {instance}")

    def publish_names(self, stack: str, hosts: str) -> None:
        self._call("names")
        self.names = hosts

    def read_document(self, stack: str, name: str) -> bytes | None:
        return self.documents.get(name)

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        self._call(f"document {name}")
        if data is None:
            self.documents.pop(name, None)
        else:
            self.documents[name] = data

    def write_documents(self, stack: str, documents: Mapping[str, bytes | None]) -> None:
        for name, data in documents.items():
            self.write_document(stack, name, data)

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        for name in sorted(self.documents):
            if name != "secrets" or not keep_secrets:
                self.write_document(stack, name, None)
