"""Steps in build containers of engines. What such a step leaves stays with the engine, named by the step's key."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from boxwright.errors import BoxwrightError, StepError
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.keys import key_of
from boxwright.model.step import Copy, FromEngine, MakeDirectory, OnEngine, Run, Step
from boxwright.model.tree import EMPTY, Manifest, manifest_of
from boxwright.ports import (
    BuildContainer,
    ContainerShape,
    EngineCommand,
    EngineRoom,
    Fields,
    SandboxMount,
    SandboxSpec,
    StepControl,
    StepInputs,
    StepKind,
    Workspace,
)
from boxwright.steps.expect import expect, parent_of

NOWHERE: Manifest = manifest_of(EMPTY)
ENGINE_FILES = (".boxwright-pause", ".dockerenv", "run/.containerenv")
"""What engines leave in a tree, and nobody else."""
RESTORED = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "dev", "proc", "sys")
"""What engines write over: as the base has it again. (docs/manifests.md lists them.)"""
BOOTED = (
    "etc/machine-id",
    "etc/.pwd.lock",
    "etc/.updated",
    "var/.updated",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/timers",
    "var/lib/systemd/timesync",
    "var/lib/systemd/rfkill",
    "var/log/journal",
    "var/log/wtmp",
    "var/log/lastlog",
    "run",
)
"""What an init writes when it boots."""
LINKS_MOST = 40


class Trees(NamedTuple):
    """How trees become tars and tars trees: paths of this machine.

    `pack` writes a snapshot's tree as a tar with the build container's first process in it; `pack_changes` what a
    snapshot has more than an earlier one; `unpack` reads a tar into a directory; `scratch` makes an empty directory.
    """

    pack: Callable[[Snapshot, str], None]
    pack_changes: Callable[[Snapshot, Snapshot, str], None]
    unpack: Callable[[BinaryIO, str], None]
    scratch: Callable[[], str]


Graft = Callable[[str, Snapshot, int | None, tuple[str, ...]], None]
"""Makes a tree what it were without an engine: directory, what the steps began with, newest time, mount points."""


def stand_in(key: Digest, epoch: int) -> Snapshot:
    """What stands for a state that only an engine holds."""
    return Snapshot(key, (), NOWHERE, epoch)


def state_name(snapshot: Snapshot) -> str:
    """How an engine calls a state: a step's by its key, a tree of the store by its content and times."""
    return hex_of(snapshot.key) if not snapshot.layers else hex_of(snapshot.manifest.full)


class OnEngineKind:
    """Steps on an engine. `kinds` are those of the same steps done here; `spec` says what a command is given.

    `mounted` makes what is mounted beside one.
    """

    def __init__(
        self,
        workspace: Workspace,
        room: EngineRoom,
        kinds: Mapping[type[Step], StepKind],
        trees: Trees,
        spec: Callable[[Run, Snapshot, int], SandboxSpec],
        mounted: Callable[[Run, StepInputs, StepControl], object],
    ) -> None:
        self._workspace = workspace
        self._room = room
        self._kinds = kinds
        self._trees = trees
        self._spec = spec
        self._mounted = mounted

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """Those of the step itself, and the engine: it is not the same container."""
        elsewhere = expect(step, OnEngine)
        inner = self._kinds[type(elsewhere.step)].fields(elsewhere.step, inputs)
        if inner is None:
            return None
        return (("engine", elsewhere.engine), ("step", type(elsewhere.step).__name__), *inner)

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Do it in a container of the state that it starts from, and keep what it left there."""
        elsewhere = expect(step, OnEngine)
        parent = parent_of(inputs)
        if parent.layers:
            self._room.load(state_name(parent), lambda: self._packed(parent))
        inner = elsewhere.step
        if isinstance(inner, Run):
            self._run(inner, elsewhere, key, inputs, control)
        else:
            with self._room.held(state_name(parent), ContainerShape()) as container:
                self._place(inner, container, inputs, control)
                container.commit(hex_of(key))
        if elsewhere.gate:
            return self._passed(key)
        return stand_in(key, control.epoch)

    def _passed(self, key: Digest) -> Snapshot:
        """A validation that passed is known here too: nobody needs to ask the engine."""
        with self._workspace.draft(None) as draft:
            return self._workspace.commit(key, None, draft, newest=0)

    def _run(self, run: Run, elsewhere: OnEngine, key: Digest, inputs: StepInputs, control: StepControl) -> None:
        parent = parent_of(inputs)
        spec = self._spec(run, parent, control.epoch)
        shaped = self._shape(run, spec, inputs, control)
        with shaped as (shape, env), self._room.held(state_name(parent), shape) as container:
            command = EngineCommand(run.argv, (*spec.env, *env), run.cwd or "/", run.user)
            status = container.execute(command, control.output, control.cancelled)
            if control.cancelled():
                raise KeyboardInterrupt
            if status:
                raise StepError("step.failed", f"the command ended with exit status {status}", status=status)
            if not elsewhere.gate:
                container.commit(hex_of(key))

    @contextmanager
    def _shape(
        self, run: Run, spec: SandboxSpec, inputs: StepInputs, control: StepControl
    ) -> Iterator[tuple[ContainerShape, tuple[tuple[str, str], ...]]]:
        plain = ContainerShape(spec.network, (), spec.hosts)
        if not run.mounts:
            yield plain, ()
            return
        with self._mounted(run, inputs, control) as mounted:  # type: ignore[attr-defined]
            mounts: tuple[SandboxMount, ...] = mounted.mounts
            yield plain._replace(mounts=mounts), mounted.env

    def _packed(self, snapshot: Snapshot) -> str:
        path = f"{self._trees.scratch()}/tree.tar"
        self._trees.pack(snapshot, path)
        return path

    # Files -----------------------------------------------------------------------------------------------------------

    def _place(
        self, step: Copy | MakeDirectory, container: BuildContainer, inputs: StepInputs, control: StepControl
    ) -> None:
        """Do it here, on a sketch of what the container holds in that place, and hand on what came of it."""
        asked = step.destination if isinstance(step, Copy) else step.path
        where = resolved(container, asked)
        sketch = self._sketch(container, where, step.owner)
        slash = "/" if asked.endswith("/") and where != "/" else ""
        there = f"{where}{slash}"
        step = step._replace(destination=there) if isinstance(step, Copy) else step._replace(path=where)
        kind = self._kinds[type(step)]
        moved = StepInputs((sketch.key, *inputs.states[1:]), (sketch, *inputs.snapshots[1:]))
        fields = kind.fields(step, moved)
        if fields is None:
            raise BoxwrightError("store.gone", "what is copied was removed meanwhile", hint="build again")
        key = key_of(type(step).__name__, fields)
        made = self._workspace.snapshot(key) or kind.run(step, key, moved, control)
        path = f"{self._trees.scratch()}/changes.tar"
        self._trees.pack_changes(sketch, made, path)
        try:
            container.put(path)
        finally:
            os.unlink(path)

    def _sketch(self, container: BuildContainer, path: str, owner: str) -> Snapshot:
        """A tree that holds what a COPY looks at: the directories on its way, and who the container's users are."""
        directories = [part for part in _ancestors(path) if _is_directory(container, part)]
        there = container.look(path)
        if there is not None and there.kind == "directory":
            directories.append(path)
        users = {name: container.read(f"/{name}") or b"" for name in ("etc/passwd", "etc/group")} if owner else {}
        known = tuple((name, str(digest_of(data))) for name, data in sorted(users.items()))
        key = key_of("EngineSketch", (("path", path), ("directories", tuple(directories)), ("users", known)))
        found = self._workspace.snapshot(key)
        if found is not None:
            return found
        with self._workspace.draft(None) as draft:
            for name, data in users.items():
                os.makedirs(os.path.dirname(f"{draft.upper}/{name}"), exist_ok=True)
                with open(f"{draft.upper}/{name}", "wb") as file:
                    file.write(data)
            for directory in directories:
                os.makedirs(f"{draft.upper}{directory}", exist_ok=True)
            return self._workspace.commit(key, None, draft, newest=0)

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key


def _ancestors(path: str) -> list[str]:
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]


def _is_directory(container: BuildContainer, path: str) -> bool:
    seen = container.look(path)
    return seen is not None and seen.kind == "directory"


def resolved(container: BuildContainer, path: str) -> str:
    """`path` with each symbolic link on its way, and at its end, followed inside the container."""
    waiting = [part for part in reversed(path.split("/")) if part and part != "."]
    real: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            real = real[:-1]
            continue
        seen = container.look("/" + "/".join((*real, part)))
        if seen is None or seen.kind != "symlink":
            real.append(part)
            continue
        links += 1
        if links > LINKS_MOST:
            raise BoxwrightError("copy.links", f"{path}: symbolic links without end")
        if posixpath.isabs(seen.target):
            real = []
        waiting.extend(name for name in reversed(seen.target.split("/")) if name and name != ".")
    return "/" + "/".join(real)


class FromEngineKind:
    """A state's tree becomes an ordinary snapshot: what the engine itself wrote is not in it."""

    def __init__(self, workspace: Workspace, room: EngineRoom, trees: Trees, graft: Graft) -> None:
        self._workspace = workspace
        self._room = room
        self._trees = trees
        self._graft = graft

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state."""
        if inputs.states[0] is None:
            return None
        return (("engine", expect(step, FromEngine).engine), ("state", inputs.states[0]))

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Fetch it. Files that engines write over are those of the tree with which the steps began."""
        directory = self._trees.scratch()
        archive = f"{directory}/tree.tar"
        prefix = self._room.fetch(state_name(parent_of(inputs)), archive)
        root = f"{directory}/tree"
        os.mkdir(root, 0o755)
        with open(archive, "rb") as file:
            self._trees.unpack(file, root)
        os.unlink(archive)
        top = os.path.join(root, prefix.strip("/")) if prefix.strip("/") else root
        base = inputs.snapshots[1]
        self._graft(top, expect(base, Snapshot), control.newest, expect(step, FromEngine).mounts)
        with self._workspace.draft(None) as draft:
            os.rmdir(draft.upper)
            os.rename(top, draft.upper)
            return self._workspace.commit(key, None, draft, newest=None)

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The content, where it is known: another way to the same tree changes nothing above it."""
        return key
