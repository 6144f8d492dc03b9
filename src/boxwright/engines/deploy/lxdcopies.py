"""Copies, snapshots and backups of volumes on LXD.

A copy is made by LXD's own migration between members, with `refresh` where there is one already, and includes a
snapshot that was taken for it. A member that dies while it is copied leaves a torn copy; the snapshot of the one
before is whole. So what takes the place of a lost volume is made of the snapshot, under a new name: nothing that is
still being written anywhere is ever mounted.
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
from boxwright.engines.deploy.lxdvolumes import Kept, LxdVolumes, Lying, at
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


class LxdCopies(LxdVolumes):
    """What is done with the volumes of stacks beside mounting them."""

    @contextmanager
    def copying(self, stack: str) -> Iterator[None]:
        """Held by one process of all members."""
        if not self.clustered:
            with self.lock(stack, 0):
                yield
            return
        lease = self._leases.setdefault(f"{stack}.copies", Lease(self._client, f"{stack}.copies"))
        with lease.held(0):
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
        """Bring the copy on another member up to date, or make it; where only the changes can't be sent, all is."""
        home = self._volume(stack, name)
        now = time.time()
        snapshot = f"{FOR_COPY}{round(now * _MILLI)}"
        self._take(stack, home, snapshot)
        there = self._copy(stack, name, member)
        try:
            self._transfer(stack, home, member, refresh=there is not None)
        except LxdError:
            if there is None:
                raise
            self.drop_copy(stack, name, member)
            self._transfer(stack, home, member, refresh=False)
        if there is not None:
            copied = f"/storage-pools/{there.pool}/volumes/custom/{there.name}"
            self._within(stack).run("PATCH", copied, {"config": home.carried}, query=at(member))

        def noted(kept: Kept) -> Kept:
            copies = (*(it for it in kept.copies if it[0] != member), (member, now, snapshot))
            if kept.name and (kept.name, kept.member) != (home.name, home.member):
                return kept  # a copy has taken its place meanwhile
            return kept._replace(name=home.name, member=home.member, copies=copies)

        with self.lock(stack, _BUSY_SECONDS):
            self._keep(stack, name, noted)
        self._prune(stack, home)

    def _take(self, stack: str, home: Lying, snapshot: str) -> None:
        self._within(stack).run("POST", f"{home.path}/snapshots", {"name": snapshot}, query=at(home.member))

    def _transfer(self, stack: str, home: Lying, member: str, *, refresh: bool) -> None:
        """Again where a file went while rsync looked: LXD sends the volume itself after its snapshots."""
        for _ in range(_ATTEMPTS):
            try:
                return self._transfer_once(stack, home, member, refresh=refresh)
            except LxdError as error:
                if _VANISHED not in error.message:
                    raise
        return self._transfer_once(stack, home, member, refresh=refresh)

    def _transfer_once(self, stack: str, home: Lying, member: str, *, refresh: bool) -> None:
        """Let `member` fetch it from the volume's own member."""
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
            "name": f"{home.volume}.COPY.{member}",
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

    def _prune(self, stack: str, home: Lying) -> None:
        """Of the snapshots for copies the newest stays, and those that a copy was last made of."""
        known = self._kept(self.read_document(stack, "volumes")).get(home.volume, Kept())
        names = [it.name for it in self._snapshots(stack, home) if it.name.startswith(FOR_COPY)]
        needed = {snapshot for _, _, snapshot in known.copies} | set(names[-1:])
        for it in names:
            if it not in needed:
                self._delete(stack, home, it)

    def drop_copy(self, stack: str, name: str, member: str) -> None:
        """Forget it, then remove it."""
        with self.lock(stack, _BUSY_SECONDS):
            self._keep(stack, name, lambda it: it._replace(copies=tuple(x for x in it.copies if x[0] != member)))
        if (copy := self._copy(stack, name, member)) is not None:
            self._remove(stack, copy)

    def _copy(self, stack: str, volume: str, member: str) -> Lying | None:
        lying = (it for it in self._lying(stack) if it.volume == volume and it.member == member)
        return next((it for it in lying if not it.generation), None)

    def promote_copy(self, stack: str, name: str, lost: str, member: str) -> None:
        """Make the next generation of the last whole snapshot of the copy, then say that it is the volume.

        Raises BoxwrightError `deploy.taken`, `volume.no-copy`.
        """
        home = self._volume(stack, name)
        known = self._kept(self.read_document(stack, "volumes")).get(name, Kept())
        copied = next(((moment, snapshot) for it, moment, snapshot in known.copies if it == member), None)
        lying = [it for it in self._lying(stack) if it.volume == name and it.member == member]
        copy = next((it for it in lying if not it.generation), None)
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
            "source": {"type": "copy", "pool": copy.pool, "name": f"{copy.name}/{copied[1]}"},
        }
        self._within(stack).run("POST", f"/storage-pools/{copy.pool}/volumes/custom", body, query=at(member))

        def promoted(kept: Kept) -> Kept:
            if (kept.name, kept.member) != (known.name, known.member):
                raise BoxwrightError("deploy.taken", f"another process has put a copy in the place of {name}")
            return kept._replace(name=new, member=member, copied=copied[0], since=round(time.time(), 3))

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
        """As the next generation beside the volume, to which its instances are then turned."""
        home = self._volume(stack, volume)
        client = self._within(stack)
        name = f"{volume}.G{home.generation + 1}"
        headers = {"Content-Type": "application/octet-stream", "X-LXD-name": name}
        path = f"/storage-pools/{home.pool}/volumes/custom"
        new = home._replace(name=name, generation=home.generation + 1)
        try:
            answered = client.send("POST", path, file, query=at(home.member), headers=headers, patience=TRANSFER)
            client.wait(client.operation_of(client.answer(f"restoring {volume}", answered)), f"restoring {volume}")
        except LxdError as error:
            message = f"this is no backup that LXD takes: {error.message}"
            raise BoxwrightError("volume.backup", message, hint="what was there is there still") from error
        self._keep(stack, volume, lambda kept: kept._replace(name=name, member=home.member, copied=0.0, since=0.0))
        for it in client.get("/instances", recursion="1"):
            devices = {
                key: {**device, "source": new.name}
                for key, device in (it.get("devices") or {}).items()
                if device.get("source") == home.name and device.get("pool") == home.pool
            }
            if devices:
                client.run("PATCH", f"/instances/{it['name']}", {"devices": devices})
        self._remove(stack, home)
