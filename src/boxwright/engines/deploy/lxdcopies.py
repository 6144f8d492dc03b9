"""Copies, snapshots and backups of volumes on LXD.

A copy is made by LXD's own migration between members, with `refresh` where there is one already, and includes a
snapshot that was taken for it. A member that dies while it is copied leaves a torn copy; the snapshot of the one
before is whole. So what takes the place of a lost volume is made of the snapshot, under a new name: nothing that is
still being written anywhere is ever mounted. Where a refresh can't be, a whole copy is made beside the one that is
there: the document `volumes` names the new one once it is whole, and only what it does not name is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO

from boxwright.engines.deploy.lxdguard import Guard
from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.deploy.lxdmemory import unless_gone
from boxwright.engines.deploy.lxdvolumes import (
    VOLUMES,
    Kept,
    KeptCopy,
    LxdVolumes,
    Lying,
    at,
    copy_name,
    turned_devices,
)
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import find_member
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import TRANSFER
from boxwright.engines.lxdclient.transport import Patience
from boxwright.errors import BoxwrightError
from boxwright.model.volumes import LATE_SECONDS, PROMISED_SECONDS, GuardNote, VolumeSnapshot, snapshot_time

FOR_COPY = "copy-"
"""Before the names of snapshots that are taken for copies."""
_BACKUP = "boxwright"
_MILLI = 1000
_GUARD = "boxwright-guard-"
_ENDED_AFTER, _UNTIL = "user.boxwright.ended-after", "user.boxwright.until"
_BUSY_SECONDS = 60.0
_ATTEMPTS, _VANISHED = 5, "file has vanished"
"""What rsync says, with its status 24 (rsync(1))."""
_READING = Patience(6.0)
_BESIDE = ".2"
"""After the name of a copy that is made while another one has the usual name."""
_PASSING = ("lxd.no-space", "lxd.unreachable", "lxd.broken", "lxd.timeout", "lxd.unavailable", "lxd.denied")
"""Failures of a refresh after which to send all would not help."""


class LxdCopies(LxdVolumes):
    """What is done with the volumes of stacks beside mounting them."""

    @contextmanager
    def copying(self, stack: str, patience: float = 0.0) -> Iterator[None]:
        """Held by one process of all members."""
        name = f"{stack}.copies"
        if not self.clustered:
            with self._hooks.lock(name, patience):
                yield
            return
        with self._leases.setdefault(name, Lease(self._client, name)).held(patience):
            yield

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """What guards of a stack that is no more have written down, too."""
        super().forget(stack, keep_secrets=keep_secrets)
        for member in self.guards(stack) if self.clustered and not keep_secrets else ():
            path = f"/profiles/{_GUARD}{stack}.{member}"
            unless_gone(partial(self._client.within("default").run, "DELETE", path))

    @contextmanager
    def guard(
        self, stack: str, seconds: float, grace: float, tell: Callable[[str, str], None]
    ) -> Iterator[Callable[[Collection[str]], None] | None]:
        """On a member of a cluster; a client elsewhere can stop nothing.

        Who watches asks again instead of waiting: what was asked while a leader died is answered late, what is asked
        after that at once.
        """
        self._client.reading = _READING
        if not (member := self.home()):
            yield None
            return
        name = f"{_GUARD}{stack}.{member}"

        def register(guarded: bool) -> None:  # noqa: FBT001  the guard's call
            profiles = self._client.within("default")
            if not guarded:
                unless_gone(lambda: profiles.run("DELETE", f"/profiles/{name}"))
                return
            ended = seconds + grace + LATE_SECONDS
            config = {_ENDED_AFTER: str(ended), _UNTIL: str(time.time() + PROMISED_SECONDS)}
            if profiles.find(f"/profiles/{name}") is None:
                profiles.run("POST", "/profiles", {"name": name, "config": config})
            else:
                profiles.run("PUT", f"/profiles/{name}", {"config": config, "devices": {}, "description": ""})

        found = Guard(self._client, stack, seconds, grace, register, tell)
        found.start()
        try:
            yield found.note
        finally:
            found.end()

    def guards(self, stack: str) -> Mapping[str, GuardNote]:
        """As the guards have written down: a profile for each, so that none is lost where two write at once."""
        found = {it["name"]: it for it in self._client.within("default").get("/profiles", recursion="1")}
        prefix = f"{_GUARD}{stack}."
        notes = {name: it.get("config") or {} for name, it in found.items() if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): GuardNote(float(it.get(_ENDED_AFTER, "inf")), float(it.get(_UNTIL, 0)))
            for name, it in notes.items()
        }

    # Copies -----------------------------------------------------------------------------------------------------------

    def copy_volume(self, stack: str, name: str, member: str) -> None:
        """Bring the copy on another member up to date, or make a whole one.

        What the document calls a copy stays until another whole one has taken its place there.
        """
        home = self._volume(stack, name)
        self._refuse_transfers(stack, name)
        common = self._prune(stack, home)
        now = time.time()
        snapshot = f"{FOR_COPY}{round(now * _MILLI)}"
        self._take(stack, home, snapshot)
        made = KeptCopy(member, now, snapshot, self._bring(stack, home, member, common))

        def noted(kept: Kept) -> Kept:
            copies = (*(it for it in kept.copies if it.member != member), made)
            if kept.name and (kept.name, kept.member) != (home.name, home.member):
                return kept  # a copy has taken its place meanwhile
            return kept._replace(name=home.name, member=home.member, copies=copies)

        with self.lock(stack, _BUSY_SECONDS):
            self._keep(stack, name, noted)
        self._sweep(stack, name)
        self._prune(stack, home)

    def _bring(self, stack: str, home: Lying, member: str, common: Collection[str]) -> str:
        """Send the changes since a snapshot that both have, else all; returns the name of what is whole now.

        LXD removes what the source has no more before it sends anything: without a common snapshot a refresh that
        fails would leave nothing. So all is sent beside the copy then, as where the changes can't be sent.
        """
        known = self._known(stack, home.volume).copy_on(member)
        here = [it for it in self._copies(stack, home.volume) if it.member == member]
        whole = next((it for it in here if known is not None and it.name == known.name), None)
        if whole is not None and known is not None and known.snapshot in common:
            try:
                self._transfer(stack, home, whole.name, member, refresh=True)
                self._within(stack).run("PATCH", whole.path, {"config": home.carried}, query=at(member))
            except LxdError as error:
                if error.code in _PASSING or _VANISHED in error.message:
                    raise
            else:
                return whole.name
        for it in here:
            if it != whole:
                self._remove(stack, it)  # an attempt that was interrupted
        name = copy_name(home.volume, member)
        if whole is not None and whole.name == name:
            name += _BESIDE
        try:
            self._transfer(stack, home, name, member, refresh=False)
        except LxdError:
            with suppress(LxdError):
                self._remove(stack, Lying(home.pool, name, member, home.volume, 0))
            raise
        return name

    def _refuse_transfers(self, stack: str, volume: str) -> None:
        """What a process began that was killed goes on in LXD. Raises BoxwrightError `deploy.busy`."""
        found = self._within(stack).get("/operations", recursion="1") or {}
        for it in (*found.get("running", ()), *found.get("pending", ())):
            used = (it.get("resources") or {}).get("storage_volumes") or ()
            if any(copy_name(f"/{volume}", "") in path for path in used):
                message = f"LXD still copies the volume {volume}, for a process that is no more"
                raise BoxwrightError("deploy.busy", message, hint="wait until that has ended: lxc operation list")

    def _sweep(self, stack: str, volume: str) -> None:
        """Remove what is no whole copy, or was one until another took its place; what can't be now, later."""
        known = {(it.member, it.name) for it in self._known(stack, volume).copies}
        for it in self._copies(stack, volume):
            if (it.member, it.name) not in known:
                with suppress(LxdError):
                    self._remove(stack, it)

    def _take(self, stack: str, home: Lying, snapshot: str) -> None:
        self._within(stack).run("POST", f"{home.path}/snapshots", {"name": snapshot}, query=at(home.member))

    def _transfer(self, stack: str, home: Lying, name: str, member: str, *, refresh: bool) -> None:
        """Again where a file went while rsync looked: LXD sends the volume itself after its snapshots."""
        for _ in range(_ATTEMPTS):
            try:
                return self._transfer_once(stack, home, name, member, refresh=refresh)
            except LxdError as error:
                if _VANISHED not in error.message:
                    raise
        return self._transfer_once(stack, home, name, member, refresh=refresh)

    def _transfer_once(self, stack: str, home: Lying, name: str, member: str, *, refresh: bool) -> None:
        """Let `member` fetch it from the volume's own member, under this name."""
        client = self._within(stack)
        body: dict[str, Any] = {"name": home.name, "pool": home.pool, "migration": True, "volume_only": False}
        answer = client.request("POST", home.path, body, query=at(home.member))
        operation = client.operation_of(answer)
        source = {
            "type": "migration",
            "mode": "pull",
            "operation": f"https://{find_member(self._client, home.member).address}/1.0/operations/{operation}",
            "secrets": answer["metadata"]["metadata"],
            "certificate": self._client.get("")["environment"]["certificate"],
            "refresh": refresh,
            "volume_only": False,
        }
        body = {
            "name": name,
            "type": "custom",
            "content_type": "filesystem",
            "config": home.carried,
            "source": source,
        }
        path = f"/storage-pools/{home.pool}/volumes/custom"
        try:
            client.run("POST", path, body, query=at(member))
            client.wait(operation, f"copying {home.name}")
        except BaseException:
            client.cancel(operation)
            raise

    def _prune(self, stack: str, home: Lying) -> Collection[str]:
        """Of the snapshots for copies those stay that a copy was last made of; returns them."""
        needed = {it.snapshot for it in self._known(stack, home.volume).copies}
        names = [it.name for it in self._snapshots(stack, home) if it.name.startswith(FOR_COPY)]
        for it in names:
            if it not in needed:
                self._delete(stack, home, it)
        return needed.intersection(names)

    def drop_copy(self, stack: str, name: str, member: str) -> None:
        """Forget it, then remove it."""
        with self.lock(stack, _BUSY_SECONDS):
            self._keep(stack, name, lambda it: it._replace(copies=tuple(x for x in it.copies if x.member != member)))
        for it in self._copies(stack, name):
            if it.member == member:
                self._remove(stack, it)

    def _copies(self, stack: str, volume: str) -> list[Lying]:
        """All that lies about as copies of a volume, whole or not."""
        return [it for it in self._lying(stack) if it.volume == volume and not it.generation]

    def _known(self, stack: str, volume: str) -> Kept:
        return self._kept(self.read_document(stack, VOLUMES)).get(volume, Kept())

    def promote_copy(self, stack: str, name: str, lost: str, member: str) -> None:
        """Make the next generation of the last whole snapshot of the copy, then say that it is the volume.

        Raises BoxwrightError `deploy.taken`, `volume.no-copy`.
        """
        home = self._volume(stack, name)
        known = self._known(stack, name)
        copied = known.copy_on(member)
        lying = [it for it in self._lying(stack) if it.volume == name and it.member == member]
        copy = next((it for it in lying if copied is not None and it.name == copied.name), None)
        if home.member != lost:
            message = f"the volume {name} is on {home.member} now: another process has put a copy in its place"
            raise BoxwrightError("deploy.taken", message, hint="do it again: what runs is looked at first")
        if copied is None or copy is None:
            raise BoxwrightError("volume.no-copy", f"{member} has no copy of the volume {name}")
        new = f"{name}.G{home.generation + 1}"
        for it in lying:
            if it.name == new:
                self._remove(stack, it)  # an attempt that was interrupted
        body = {
            "name": new,
            "type": "custom",
            "config": copy.carried,
            "source": {"type": "copy", "pool": copy.pool, "name": f"{copy.name}/{copied.snapshot}"},
        }
        self._within(stack).run("POST", f"/storage-pools/{copy.pool}/volumes/custom", body, query=at(member))

        def promoted(kept: Kept) -> Kept:
            if (kept.name, kept.member) != (known.name, known.member):
                raise BoxwrightError("deploy.taken", f"another process has put a copy in the place of {name}")
            return kept._replace(name=new, member=member, copied=copied.time, since=round(time.time(), 3))

        self._keep(stack, name, promoted)

    # Snapshots --------------------------------------------------------------------------------------------------------

    def snapshots(self, stack: str, volume: str) -> Sequence[VolumeSnapshot]:
        """Those of a volume, without those that are taken for copies."""
        found = self._snapshots(stack, self._volume(stack, volume))
        return tuple(it for it in found if not it.name.startswith(FOR_COPY))

    def _snapshots(self, stack: str, home: Lying) -> list[VolumeSnapshot]:
        # A list of one volume's snapshots is that of the member that is asked, whichever target it is given.
        found = self._within(stack).get(f"/storage-pools/{home.pool}/volumes/custom", recursion="1")
        here = (None, "none", "", home.member)
        own = (it for it in found if it["name"].startswith(f"{home.name}/") and it.get("location") in here)
        names = [str(it["name"]).rpartition("/")[2] for it in own]
        return sorted((VolumeSnapshot(it, snapshot_time(it)) for it in names), key=lambda it: (it.time, it.name))

    def take_snapshot(self, stack: str, volume: str, name: str) -> None:
        """LXD's own."""
        home = self._volume(stack, volume)
        if any(it.name == name for it in self._snapshots(stack, home)):
            raise BoxwrightError("volume.exists", f"the volume {volume} has a snapshot {name} already")
        self._take(stack, home, name)

    def restore_snapshot(self, stack: str, volume: str, name: str) -> None:
        """LXD's own; some pools go back to the last one only."""
        home = self._volume(stack, volume)
        self._require(stack, home, name)
        self._within(stack).run("PUT", home.path, {"restore": name}, query=at(home.member))

    def delete_snapshot(self, stack: str, volume: str, name: str) -> None:
        """Remove it."""
        home = self._volume(stack, volume)
        self._require(stack, home, name)
        self._delete(stack, home, name)

    def _require(self, stack: str, home: Lying, name: str) -> None:
        known = [it.name for it in self._snapshots(stack, home)]
        if name not in known:
            hint = f"there is {', '.join(known) or 'none'}"
            raise BoxwrightError("volume.no-snapshot", f"the volume {home.volume} has no snapshot {name}", hint=hint)

    def _delete(self, stack: str, home: Lying, name: str) -> None:
        path = f"{home.path}/snapshots/{name}"
        unless_gone(lambda: self._within(stack).run("DELETE", path, query=at(home.member)))

    # Backups ----------------------------------------------------------------------------------------------------------

    def write_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """In LXD's format, which ``lxc storage volume import`` takes too."""
        home = self._volume(stack, volume)
        client = self._within(stack)
        place = f"{home.path}/backups"
        body = {"name": _BACKUP, "volume_only": True, "optimized_storage": False}
        with suppress(LxdError):  # of an attempt that was interrupted
            client.run("DELETE", f"{place}/{_BACKUP}", query=at(home.member))
        client.run("POST", place, body, query=at(home.member))
        try:
            with client.stream(f"{place}/{_BACKUP}/export", query=at(home.member), patience=TRANSFER) as (_, pieces):
                file.writelines(pieces)
        finally:
            client.run("DELETE", f"{place}/{_BACKUP}", query=at(home.member))

    def read_backup(self, stack: str, volume: str, file: BinaryIO) -> None:
        """As the next generation beside the volume, to which its instances are then turned.

        Which one is the volume is written down before the new one is made, and again once it is whole. An instance that
        was not turned is turned before it starts.
        """
        home = self._volume(stack, volume)
        client = self._within(stack)
        new = home._replace(name=f"{volume}.G{home.generation + 1}", generation=home.generation + 1)
        self._keep(stack, volume, lambda kept: kept._replace(name=home.name, member=home.member))
        self._remove(stack, new)  # an attempt that was interrupted
        headers = {"Content-Type": "application/octet-stream", "X-LXD-name": new.name}
        path = f"/storage-pools/{home.pool}/volumes/custom"
        try:
            answered = client.send("POST", path, file, query=at(home.member), headers=headers, patience=TRANSFER)
            client.wait(client.operation_of(client.answer(f"restoring {volume}", answered)), f"restoring {volume}")
        except LxdError as error:
            with suppress(LxdError):
                self._remove(stack, new)
            message = f"this is no backup that LXD takes: {error.message}"
            raise BoxwrightError("volume.backup", message, hint="what was there is there still") from error
        self._keep(stack, volume, lambda kept: kept._replace(name=new.name, member=home.member, copied=0.0, since=0.0))
        lying = self._lying(stack)
        for it in client.get("/instances", recursion="1"):
            self._turn(client, it["name"], turned_devices(it, lying, {volume: new}))
        self._remove(stack, home)

    @staticmethod
    def _turn(client: LxdClient, instance: str, devices: Mapping[str, Mapping[str, str]]) -> None:
        """Let an instance mount what is its volume now."""
        if devices:
            client.run("PATCH", f"/instances/{instance}", {"devices": devices})
