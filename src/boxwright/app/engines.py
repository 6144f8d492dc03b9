"""Builds on engines: the graph's steps are put there, and the trees brought back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from boxwright.errors import BoxwrightError, UsageError
from boxwright.frontends.manifest.made import ManifestGraph
from boxwright.model.digest import Digest, hex_of
from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.step import FromEngine, OnEngine, Run
from boxwright.ports import Bind, BuildContainer, ContainerShape, SandboxMount, StepControl, StepInputs, TreeMount
from boxwright.solver.elsewhere import on_engine
from boxwright.solver.keys import Find, Kinds
from boxwright.steps.expect import expect
from boxwright.steps.onengine import FromEngineKind, OnEngineKind, stand_in
from boxwright.steps.run import RunKind
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.mounts import LateMounts
    from boxwright.engines.building.endpoints import Endpoints

NATIVE = "native"
NAMES = (NATIVE, "podman", "docker", "lxc", "lxd")


def moved_manifest(manifest: ManifestGraph, engine: str) -> ManifestGraph:
    """The manifest's graph with its steps on an engine. Raises UsageError `engine.unknown`."""
    if engine not in NAMES:
        raise UsageError("engine.unknown", f"there is no engine {engine!r}", hint=f"there are: {', '.join(NAMES)}")
    ends = {position for entry in manifest.entries for position in (entry.target, *entry.gates)}
    moved = on_engine(manifest.graph, engine, ends)
    entries = tuple(
        entry._replace(target=moved.positions[entry.target], gates=tuple(moved.positions[it] for it in entry.gates))
        for entry in manifest.entries
    )
    return manifest._replace(graph=moved.graph, entries=entries)


def engine_of(graph: Graph) -> str:
    """The engine on which steps of a graph are, or nothing."""
    return next((node.step.engine for node in graph.nodes if isinstance(node.step, OnEngine)), "")


class LateRoom:
    """The build containers of one build, whose engine is asked only where the store doesn't know enough."""

    def __init__(self, name: str, addresses: Sequence[str], store: Store, environment: Mapping[str, str]) -> None:
        self.name = name
        self._addresses = list(addresses) or [""]
        self.lost: list[str] = []
        self._store = store
        self._environment = environment
        self._room: Endpoints | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._directory = f"{store.home.root}/engines"

    def _opened(self) -> Endpoints:
        with self._lock:
            if self._room is None:
                from boxwright.engines.building.choose import open_engine
                from boxwright.engines.building.endpoints import Endpoints
                from boxwright.engines.building.room import Room

                rooms = {}
                for address in self._addresses:
                    engine = open_engine(self.name, address, self._environment, self._directory)
                    rooms[address] = Room(engine, self._watch)
                self._room = Endpoints(rooms, self._lose)
            return self._room

    def _lose(self, address: str) -> None:
        if address in self._addresses:
            self._addresses.remove(address)
            self.lost.append(address)

    def goes_on(self, errors: Iterable[BaseException]) -> bool:
        """Whether an endpoint was lost, at which these steps failed, and others are left."""
        lost = any(isinstance(error, BoxwrightError) and error.code == "engine.lost" for error in errors)
        return lost and bool(self._addresses)

    def has(self, state: str) -> bool:
        """Whether the engine holds a state."""
        return self._opened().has(state)

    def load(self, state: str, archive: Callable[[], str]) -> None:
        """Give the engine a tree."""
        self._opened().load(state, archive)

    def held(self, state: str, shape: ContainerShape) -> AbstractContextManager[BuildContainer]:
        """A container for one step."""
        return self._opened().held(state, shape)

    def fetch(self, state: str, archive: str) -> str:
        """Write a state's tree as a tar."""
        return self._opened().fetch(state, archive)

    def _watch(self) -> None:
        """Let a process of its own remove the containers where this one is killed."""
        from boxwright.engines.building.owners import own_mark

        if self._guard is not None:
            return
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environment = dict(self._environment) | {"PYTHONPATH": source}
        words = [self.name, self._directory, own_mark(), *self._addresses]
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "boxwright.engines.building.guard", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Remove every container; the guard has nothing more to do."""
        try:
            if self._room is not None:
                self._room.close()
        finally:
            guard, self._guard, self._room = self._guard, None, None
            if guard is not None and guard.stdin is not None:
                guard.communicate(b".")


def forget_states(name: str, address: str, store: Store, environment: Mapping[str, str], *, dry_run: bool) -> int:
    """Remove what builds left with an engine: its states, and containers of builds that ended. How many states."""
    from boxwright.engines.building.choose import open_engine

    engine = open_engine(name, address, environment, f"{store.home.root}/engines")
    try:
        states = engine.states()
        if not dry_run:
            engine.sweep()
            engine.forget(states)
        return len(states)
    finally:
        engine.close()


def engine_kinds(kinds: Kinds, mounts: LateMounts, room: LateRoom, store: Store) -> Kinds:
    """The kinds of steps on engines beside those that are done here."""
    from boxwright.app.enginetrees import graft, store_trees

    trees = store_trees(store)
    run = expect(kinds[Run], RunKind)

    def spec(step: Run, parent: Snapshot, epoch: int) -> Any:  # noqa: ANN401 - what RunKind gives
        return run.spec(step, parent, epoch, upper="", work="")

    @contextmanager
    def mounted(step: Run, inputs: StepInputs, control: StepControl) -> Iterator[object]:
        with mounts().mounted(step, inputs, control) as made:
            yield made._replace(mounts=tuple(_visible(mount, store) for mount in made.mounts))

    return {
        **kinds,
        OnEngine: OnEngineKind(store, room, kinds, trees, spec, mounted),
        FromEngine: FromEngineKind(
            store, room, trees, lambda top, base, newest, mounts: graft(top, base, newest, mounts, store, room.name)
        ),
    }


def engine_finder(find: Find, graph: Graph, room: LateRoom, epoch: int) -> Find:
    """Looks up states in the store, then on the engine, where there are such steps."""

    def look(key: Digest) -> Snapshot | None:
        found = find(key)
        if found is None and room.has(hex_of(key)):
            return stand_in(key, epoch)
        return found

    return look if engine_of(graph) else find


class EngineRecords:
    """What the scheduler needs, of the store and of the engine."""

    def __init__(self, store: Store, find: Find) -> None:
        self.snapshot = find
        self.lock = store.lock


def _visible(mount: SandboxMount, store: Store) -> SandboxMount:
    """A tree of the store as a directory that an engine can mount."""
    if not isinstance(mount, TreeMount):
        return mount
    lowers = [f"{store.home.layers}/{name}" for name in mount.lowers]
    holding = [lower for lower in lowers if os.path.lexists(f"{lower}/{mount.source}")]
    if len(holding) == 1 and mount.source:
        return Bind(f"{holding[0]}/{mount.source}", mount.target)
    place = f"{store.scratch()}/tree"
    script = 'mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && cp -a "$2/$3/." "$4"'
    point = store.scratch()
    os.mkdir(place, 0o755)
    words = ["sh", "-c", script, "sh", ":".join([*lowers, point]), point, mount.source, place]
    subprocess.run(["unshare", "--mount", "--propagation", "private", *words], check=True, capture_output=True)
    return Bind(place, mount.target)
