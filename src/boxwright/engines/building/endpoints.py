"""Several endpoints of one engine as one room: steps go where there is room, and elsewhere when an endpoint is lost."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from boxwright.engines.building.room import Room
from boxwright.errors import BoxwrightError, MachineError
from boxwright.ports import BuildContainer, ContainerShape

LOST = frozenset({"engine.unreachable", "lxd.unreachable", "lxd.broken"})
"""Codes of errors that say that an endpoint does not answer any more."""
WORTH_A_TRANSFER = 2
"""How many steps more an endpoint must have at work before a state is brought to another."""


class LostEndpointError(BoxwrightError):
    """An endpoint was lost, with all that it alone held: `address`. What is left can do the work."""

    def __init__(self, address: str, error: BoxwrightError) -> None:
        hint = "its work is done elsewhere, where there is another endpoint"
        super().__init__("engine.lost", f"{address} does not answer any more: {error.message}", hint=hint)
        self.address = address


class Endpoints:
    """Rooms by address; `told` hears of one that is lost. Safe for threads."""

    def __init__(self, rooms: Mapping[str, Room], told: Callable[[str], None] = lambda _: None) -> None:
        self._rooms = dict(rooms)
        self._told = told
        self._lock = threading.Lock()
        self._busy = dict.fromkeys(rooms, 0)
        self._sources: dict[str, Callable[[], str]] = {}
        self._moving = threading.Lock()

    @property
    def name(self) -> str:
        """The engine's name."""
        return next(iter(self._rooms.values())).name if self._rooms else "the engine"

    def has(self, state: str) -> bool:
        """Whether any endpoint holds a state."""
        return bool(self._holders(state))

    def _holders(self, state: str) -> list[str]:
        found = []
        for address, room in list(self._rooms.items()):
            try:
                if room.has(state):
                    found.append(address)
            except BoxwrightError as error:
                if error.code not in LOST or len(self._rooms) == 1:
                    raise
                self._lose(address)
        return found

    def _lose(self, address: str) -> None:
        with self._lock:
            room = self._rooms.pop(address, None)
        if room is not None:
            self._told(address)
            with suppress(BoxwrightError):
                room.close()

    def load(self, state: str, archive: Callable[[], str]) -> None:
        """Remember where a tree comes from: the endpoint that needs it gets it."""
        with self._lock:
            self._sources[state] = archive

    @contextmanager
    def held(self, state: str, shape: ContainerShape) -> Iterator[BuildContainer]:
        """A container in this state on one of the endpoints. Raises LostEndpointError."""
        address = self._choose(state)
        try:
            with self._telling(address):
                self._bring(state, address)
                with self._rooms[address].held(state, shape) as container:
                    yield container
        finally:
            with self._lock:
                self._busy[address] -= 1

    @contextmanager
    def _telling(self, address: str) -> Iterator[None]:
        try:
            yield
        except BoxwrightError as error:
            if error.code not in LOST and address in self._rooms:
                raise
            self._lose(address)
            raise LostEndpointError(address, error) from error

    def _choose(self, state: str) -> str:
        """The endpoint with the least to do among those that hold the state, or another where that pays."""
        holders = self._holders(state)
        with self._lock:
            if not self._rooms:
                raise MachineError("engine.unreachable", "no endpoint answers any more")
            idlest = min(self._rooms, key=self._busy.__getitem__)
            best = min((it for it in holders if it in self._rooms), key=self._busy.__getitem__, default=idlest)
            worth = 1 if state in self._sources else WORTH_A_TRANSFER
            if self._busy[best] - self._busy[idlest] >= worth:
                best = idlest
            self._busy[best] += 1
            return best

    def _bring(self, state: str, address: str) -> None:
        """Give an endpoint a state: a tree of the store, or what another endpoint holds."""
        room = self._rooms[address]
        with self._moving:
            if room.has(state):
                return
            source = self._sources.get(state)
            holders = [] if source else self._holders(state)
            if source is None and not holders:
                raise BoxwrightError("engine.no-state", f"no endpoint holds the state {state}", hint="build again")
            room.load(state, source or (lambda: self._fetched(state, holders[0])))

    def _fetched(self, state: str, holder: str) -> str:
        directory = tempfile.mkdtemp(prefix="boxwright-state-")
        try:
            path = f"{directory}/tree.tar"
            with self._telling(holder):
                prefix = self._rooms[holder].fetch(state, path)
            moved = f"{directory}.tar"
            _without_prefix(path, prefix, moved)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return moved

    def fetch(self, state: str, archive: str) -> str:
        """Write a state's tree as a tar. Raises LostEndpointError."""
        holders = self._holders(state)
        if not holders:
            raise BoxwrightError("engine.no-state", f"no endpoint holds the state {state}", hint="build again")
        with self._telling(holders[0]):
            return self._rooms[holders[0]].fetch(state, archive)

    def close(self) -> None:
        """Remove every container."""
        failed: BoxwrightError | None = None
        for address, room in list(self._rooms.items()):
            try:
                room.close()
            except BoxwrightError as error:
                if error.code in LOST:
                    self._told(address)
                else:
                    failed = failed or error
        if failed is not None:
            raise failed


def _without_prefix(path: str, prefix: str, target: str) -> None:
    """The members below `prefix`, as if that were the root."""
    if not prefix:
        os.rename(path, target)
        return
    with tarfile.open(path) as source, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        for member in source:
            if not member.name.startswith(prefix):
                continue
            member.name = member.name.removeprefix(prefix)
            member.pax_headers = {key: it for key, it in member.pax_headers.items() if key not in ("path", "linkpath")}
            if member.islnk():
                member.linkname = member.linkname.removeprefix(prefix)
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
