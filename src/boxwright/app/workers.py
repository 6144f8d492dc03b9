"""Where the actions of packages are run: here, or on Remote Execution API servers, side by side.

Nothing of this is read or connected before something must be built. What a server can't do is done here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.configuration import configuration_files
from boxwright.events import Message
from boxwright.files import hash_file
from boxwright.model.digest import Digest, hex_of
from boxwright.model.step import BuildPackage, Step, TestPackage
from boxwright.ports import ActionSpec, Emit, ExitStatus
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.slots import Slots
    from boxwright.model.package import PackageRecord
    from boxwright.repositories.ports import PackageSource
    from boxwright.repositories.reapi.actions import RemoteAction
    from boxwright.repositories.reapi.client import Remote
    from boxwright.repositories.reapi.settings import RemoteError

Output = Callable[[bytes], None]
Cancelled = Callable[[], bool]
Definitions = Callable[[Digest], tuple[Digest, ...]]
"""Gives all definition keys that turned out to be the package of a content key."""
KEPT_OUTPUT = 1 << 20


class RemoteOptions(NamedTuple):
    """What the command line says: `jobs` elsewhere at once (None: as configured).

    `again` asks no cache, `offline` no server at all.
    """

    jobs: int | None = None
    again: bool = False
    offline: bool = False


class Workers:
    """Runs the actions of one build."""

    def __init__(self, directory: str, environment: Mapping[str, str], store: Store, options: RemoteOptions) -> None:
        self._directory = directory
        self._environment = environment
        self._store = store
        self._options = options
        self._remotes: list[Remote] = []
        self._left: set[Remote] = set()
        self._without_execution: set[Remote] = set()
        self._without_storing: set[Remote] = set()
        self._slots: Slots | None = None
        self._emit: Emit = lambda _: None
        self._lock = threading.Lock()
        self._connected = False
        self._archives: dict[str, int] = {}

    def open(self, jobs: int, emit: Emit) -> int:
        """Connect to what is configured; returns how many steps can be under way with `jobs` of them here."""
        self._connect(emit)
        if not self._remotes:
            return jobs
        from boxwright.app.slots import Slots

        executing = [remote.settings.jobs for remote in self._remotes if self._executes(remote)]
        elsewhere = (executing[0] if self._options.jobs is None else self._options.jobs) if executing else 0
        self._slots = Slots(jobs, elsewhere)
        return jobs + elsewhere

    def sources(self, emit: Emit) -> list[PackageSource]:
        """The servers, as they are asked for packages by their identities; none with ``--no-cache``."""
        if self._options.again:
            return []
        self._connect(emit)
        serving = [remote for remote in self._remotes if self._serves(remote)]
        return [remote.packages(partial(self._leave, remote)) for remote in serving]

    def is_configured(self) -> bool:
        """Whether the configuration may name a server."""
        return not self._options.offline and any(_mentions(path) for path in self._files())

    def _files(self) -> tuple[str, ...]:
        return configuration_files(self._directory, self._environment.get("HOME", ""))

    def _connect(self, emit: Emit) -> None:
        self._emit = emit
        if self._connected or not self.is_configured():
            return
        self._connected = True
        from boxwright.app.remoteconfiguration import remotes_of

        settings = remotes_of(self._files(), self._environment)
        if not settings:
            return
        from boxwright.repositories.reapi.client import Remote
        from boxwright.repositories.reapi.settings import RemoteError

        for one in settings:
            remote = Remote(one, self._store)
            self._remotes.append(remote)
            try:
                remote.open()
            except RemoteError as error:
                error.gone = True
                self._leave(remote, error)

    def record(self, packages: Iterable[PackageRecord], definitions: Definitions, tests: Sequence[Digest]) -> None:
        """Let others find by their identities what was built or found here, where its archive is on a server."""
        if not any(self._serves(remote) for remote in self._remotes):
            return
        from boxwright.repositories.reapi.packages import Recorded
        from boxwright.repositories.reapi.settings import Blob, RemoteError

        made = [
            Recorded(it.record, Blob(hex_of(it.archive), self._archives[hex_of(it.archive)]), definitions(it.key))
            for it in packages
            if hex_of(it.archive) in self._archives
        ]
        for remote in self._remotes if made or tests else ():
            if remote.stores and self._serves(remote) and remote not in self._without_storing:
                try:
                    remote.packages(partial(self._leave, remote)).record(made, tests)
                except RemoteError as error:
                    self._leave(remote, error, self._without_storing, "nothing more is stored there")

    def close(self) -> None:
        """Let go of every connection."""
        for remote in self._remotes:
            remote.close()

    @contextmanager
    def place(self, step: Step, cancelled: Cancelled) -> Iterator[None]:
        """Room for a step; the actions of packages find theirs by themselves."""
        if self._slots is None or isinstance(step, BuildPackage | TestPackage):
            yield
            return
        from boxwright.app.slots import HERE

        with self._slots.taken((HERE,), cancelled):
            yield

    def run_action(self, spec: ActionSpec, output: Output, cancelled: Cancelled) -> ExitStatus:
        """Run an action to its end, wherever that is."""
        if self._slots is None:
            return run_here(spec, output, cancelled)
        status = self._run(self._slots, spec, output, cancelled)
        target = f"{spec.work}/{spec.output}"
        storing = any(remote.stores for remote in self._remotes)
        if storing and not status.code and spec.output and os.path.exists(target):
            self._archives[hash_file(target)] = os.stat(target).st_size
        return status

    def _run(self, slots: Slots, spec: ActionSpec, output: Output, cancelled: Cancelled) -> ExitStatus:
        from boxwright.app.slots import ELSEWHERE, HERE

        actions = self._actions(spec) if spec.output else []
        found = self._look_up(actions, spec, output)
        if found:
            return ExitStatus(0, server=found, found=True)
        places = (ELSEWHERE, HERE) if any(self._executes(remote) for remote, _ in actions) else (HERE,)
        with slots.taken(places, cancelled) as place:
            if place == ELSEWHERE:
                status = self._run_there(actions, spec, output, cancelled)
                if status is not None:
                    return status
            else:
                return self._run_and_store(actions, spec, output, cancelled)
        with slots.taken((HERE,), cancelled):
            return self._run_and_store(actions, spec, output, cancelled)

    def _actions(self, spec: ActionSpec) -> list[tuple[Remote, RemoteAction]]:
        """The action as each server knows it."""
        from boxwright.repositories.reapi.settings import RemoteError

        found = []
        for remote in self._remotes:
            try:
                found.append((remote, remote.action(spec)))
            except RemoteError as error:
                self._emit(Message("note", f"{error.message}: it is built here"))
        return found

    def _look_up(self, actions: list[tuple[Remote, RemoteAction]], spec: ActionSpec, output: Output) -> str:
        """The server that had the result, which is then where the action would have put it; or nothing."""
        from boxwright.repositories.reapi.settings import RemoteError

        if self._options.again:
            return ""
        target = f"{spec.work}/{spec.output}"
        for remote, action in actions:
            if not self._serves(remote):
                continue
            try:
                if remote.look_up(action, target, output):
                    return remote.settings.name
            except RemoteError as error:
                self._leave(remote, error)
            _remove(target)
        return ""

    def _run_there(
        self, actions: list[tuple[Remote, RemoteAction]], spec: ActionSpec, output: Output, cancelled: Cancelled
    ) -> ExitStatus | None:
        """How the action ended on a server; None where no server could run it."""
        from boxwright.repositories.reapi.settings import RemoteError

        target = f"{spec.work}/{spec.output}"
        for remote, action in actions:
            if not self._executes(remote):
                continue
            try:
                code = remote.run(action, target, output, cancelled, again=self._options.again)
                return ExitStatus(code, server=remote.settings.name)
            except RemoteError as error:
                self._leave(remote, error, self._without_execution)
            _remove(target)
        return None

    def _run_and_store(
        self, actions: list[tuple[Remote, RemoteAction]], spec: ActionSpec, output: Output, cancelled: Cancelled
    ) -> ExitStatus:
        """Run it here. Others get what it made; a failure is nobody's result."""
        from boxwright.repositories.reapi.settings import RemoteError

        text = bytearray()

        def both(data: bytes) -> None:
            if len(text) < KEPT_OUTPUT:
                text.extend(data)
            output(data)

        status = run_here(spec, both, cancelled)
        target = f"{spec.work}/{spec.output}"
        if status.code or cancelled() or not os.path.exists(target):
            return status
        for remote, action in actions:
            if remote.stores and self._serves(remote) and remote not in self._without_storing:
                try:
                    remote.store(action, target, bytes(text))
                except RemoteError as error:
                    # Who may not write there may still read.
                    self._leave(remote, error, self._without_storing, "nothing more is stored there")
        return status

    def _serves(self, remote: Remote) -> bool:
        return remote not in self._left

    def _executes(self, remote: Remote) -> bool:
        return bool(remote.nodes) and remote not in self._left and remote not in self._without_execution

    def _leave(
        self,
        remote: Remote,
        error: RemoteError,
        left: set[Remote] | None = None,
        then: str = "the build goes on without it",
    ) -> None:
        """Go on without a server where it is no use to ask it again, and say so once."""
        if not error.gone:
            self._emit(Message("note", f"{error.message}: this package is built here"))
            return
        with self._lock:
            known = self._left if left is None else left
            if remote in known:
                return
            known.add(remote)
        self._emit(Message("warning", f"{error.message}: {then}"))


def run_here(spec: ActionSpec, output: Output, cancelled: Cancelled) -> ExitStatus:
    """Run an action on this machine."""
    from boxwright.sandbox.bubblewrap import run_build

    return run_build(spec, output, cancelled)


def _mentions(path: str) -> bool:
    """Whether a configuration may name such a server: most don't, and reading YAML costs time."""
    try:
        with open(path, "rb") as file:
            return b"reapi" in file.read()
    except OSError:
        return True


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
