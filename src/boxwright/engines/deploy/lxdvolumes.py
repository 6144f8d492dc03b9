"""Custom volumes of stacks on LXD. In a cluster a volume of a local pool is on one member, its copies on others.

What takes the place of a volume gets a name of its own: the second ``data`` is ``data.G2``. A copy on the member n3 is
``data.COPY.n3``, or ``data.COPY.n3.2`` where it was made beside that. The stack's document `volumes` says which one is
the volume, and which copies are whole; where it says nothing, the newest generation is the volume. A volume of a stack
has no upper case in its name, so the kinds never meet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from boxwright.engines.deploy.directories import unknown_volume
from boxwright.engines.deploy.lxdmemory import LxdHooks, LxdMemory, unless_gone
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import VolumeSpec
from boxwright.model.volumes import VolumeCopy, VolumeState

VOLUMES = "volumes"
"""The document that remembers which volume is the one, and its copies."""
_NAME = re.compile(r"(?P<volume>.+?)(?:\.G(?P<generation>[0-9]+)|\.COPY\.(?P<copy>.+))?")
_CARRIED = ("volatile.idmap.", "size")
"""Keys of a volume's configuration that go with its content."""


class Lying(NamedTuple):
    """Something in a pool: generation `generation` of a stack's volume, or (0) a copy of it. `name` is LXD's."""

    pool: str
    name: str
    member: str
    volume: str
    generation: int
    config: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """Where LXD has it."""
        return f"/storage-pools/{self.pool}/volumes/custom/{self.name}"

    @property
    def carried(self) -> dict[str, str]:
        """What of its configuration belongs to the content: whose numbers its owners are, its size."""
        return {key: value for key, value in self.config if key.startswith(_CARRIED)}


class KeptCopy(NamedTuple):
    """A copy with its last whole snapshot, and of what time that is. `name` is LXD's."""

    member: str
    time: float
    snapshot: str
    name: str


class Kept(NamedTuple):
    """What is remembered of a volume: which one it is, where it is from, and its copies."""

    name: str = ""
    member: str = ""
    copied: float = 0.0
    since: float = 0.0
    copies: tuple[KeptCopy, ...] = ()

    def copy_on(self, member: str) -> KeptCopy | None:
        """The copy that a member has."""
        return next((it for it in self.copies if it.member == member), None)


class LxdVolumes(LxdMemory):
    """The volumes of all stacks."""

    def __init__(self, client: LxdClient, hooks: LxdHooks) -> None:
        super().__init__(client, hooks)
        self._default_pool = ""

    # What is there ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _homes_of(lying: list[Lying], kept: Mapping[str, Kept]) -> dict[str, Lying]:
        """All volumes of a stack, by name."""
        names = {it.volume for it in lying if it.generation or it.volume in kept}
        return {name: _home(name, lying, kept) for name in sorted(names)}

    def _state(self, home: Lying, lying: list[Lying], known: Kept) -> VolumeState:
        name = home.volume
        there = {(it.member, it.name) for it in lying if it.volume == name and not it.generation}
        usual = ("default",) if home.pool == self._pool("default") else ()
        return VolumeState(
            name,
            home.member,
            home.generation,
            tuple(VolumeCopy(it.member, it.time) for it in known.copies if (it.member, it.name) in there),
            known.copied,
            known.since,
            tuple(sorted({it.member for it in lying if it.volume == name and it.generation and it != home})),
            size_of(dict(home.config).get("size", "")),
            tuple(dict.fromkeys((home.pool, *usual))),
        )

    def _lying(self, stack: str) -> list[Lying]:
        """Everything that the pools have of a stack, without snapshots."""
        found: list[Lying] = []
        for pool in self._pool_names():
            path = f"/storage-pools/{pool}/volumes/custom"
            for it in self._within(stack).get(path, recursion="1"):
                parsed = _NAME.fullmatch(it["name"])
                if parsed is None or "/" in it["name"]:
                    continue  # a snapshot
                generation = 0 if parsed["copy"] else int(parsed["generation"] or 1)
                location = it.get("location") or "none"
                member = "" if location == "none" else location
                config = tuple(sorted((it.get("config") or {}).items()))
                found.append(Lying(pool, it["name"], member, parsed["volume"], generation, config))
        return found

    def _volume(self, stack: str, volume: str) -> Lying:
        """A volume of a stack. Raises BoxwrightError `volume.unknown`."""
        lying = [it for it in self._lying(stack) if it.volume == volume]
        kept = self._kept(self.read_document(stack, VOLUMES))
        if not any(it.generation or volume in kept for it in lying):
            raise unknown_volume(stack, volume)
        return _home(volume, lying, kept)

    @staticmethod
    def _kept(data: bytes | None) -> dict[str, Kept]:
        raw: dict[str, dict[str, Any]] = json.loads(data) if data else {}
        return {
            name: Kept(**{**it, "copies": tuple(_kept_copy(name, *copy) for copy in it["copies"])})
            for name, it in raw.items()
        }

    def _keep(self, stack: str, volume: str, change: Callable[[Kept], Kept | None]) -> None:
        """Change what is remembered of a volume, by what is remembered at that very moment; None forgets it."""

        def changed(data: bytes | None) -> bytes:
            kept = self._kept(data)
            after = change(kept.pop(volume, Kept()))
            if after is not None:
                kept[volume] = after
            return json.dumps({name: _kept_fields(name, it) for name, it in kept.items()}, sort_keys=True).encode()

        self.change_document(stack, VOLUMES, changed)

    # Changes ----------------------------------------------------------------------------------------------------------

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """A custom volume; the pool `default` is the one of the default profile."""
        config = {"size": str(spec.size)} if spec.size else {}
        body = {"name": spec.name, "config": config, "type": "custom"}
        path = f"/storage-pools/{self._pool(spec.pool)}/volumes/custom"
        self._within(stack).run("POST", path, body, query={"target": spec.member} if spec.member else None)

    def grow_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Its copies too: what it holds then must find room in them. The volume comes first, as LXD may refuse it."""
        home = self._volume(stack, spec.name)
        copies = [it for it in self._lying(stack) if it.volume == spec.name and not it.generation]
        for it in (home, *copies):
            self._within(stack).run("PATCH", it.path, {"config": {"size": str(spec.size)}}, query=at(it.member))

    def _pool(self, name: str) -> str:
        meant = name or "default"
        if meant == "default" and self._default_pool:
            return self._default_pool
        pools = self._pool_names()
        if meant in pools:
            self._default_pool = meant if meant == "default" else self._default_pool
            return meant
        if meant != "default":
            hint = f"there is {', '.join(pools) or 'none'}; lxc storage create makes one"
            raise BoxwrightError("deploy.pool", f"there is no storage pool {name}", hint=hint)
        if not self._default_pool:
            profile = self._client.find("/profiles/default") or {}
            disks = [it for it in profile.get("devices", {}).values() if it.get("path") == "/" and it.get("pool")]
            self._default_pool = disks[0]["pool"] if disks else pools[0] if pools else ""
        if not self._default_pool:
            raise BoxwrightError("deploy.pool", "this LXD has no storage pool", hint="lxd init makes one")
        return self._default_pool

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content, its copies and what it was before."""
        for it in self._lying(stack):
            if it.volume == name:
                self._remove(stack, it)
        if self.read_document(stack, VOLUMES) is not None:
            self._keep(stack, name, lambda _: None)

    def delete_stale(self, stack: str, name: str, member: str) -> None:
        """Remove older generations on a member; never the one that is the volume."""
        home = self._volume(stack, name)
        for it in self._lying(stack):
            if it.volume == name and it.generation and it.member == member and it != home:
                self._remove(stack, it)

    def _remove(self, stack: str, lying: Lying) -> None:
        unless_gone(lambda: self._within(stack).run("DELETE", lying.path, query=at(lying.member)))

    def _pool_names(self) -> list[str]:
        """Without their content: to count who uses each pool takes LXD long."""
        return [str(it).rpartition("/")[2] for it in self._client.get("/storage-pools")]


def copy_name(volume: str, member: str) -> str:
    """What LXD calls a volume's copy on a member."""
    return f"{volume}.COPY.{member}"


def _kept_fields(volume: str, kept: Kept) -> dict[str, Any]:
    """A copy's usual name is left out: older versions know no other one."""
    copies = [it if it.name != copy_name(volume, it.member) else it[:-1] for it in kept.copies]
    return {**kept._asdict(), "copies": copies}


def _kept_copy(volume: str, member: str, time: float, snapshot: str, name: str = "") -> KeptCopy:
    return KeptCopy(str(member), float(time), str(snapshot), name or copy_name(volume, member))


def turned_devices(
    raw: Mapping[str, Any], lying: list[Lying], homes: Mapping[str, Lying]
) -> dict[str, Mapping[str, str]]:
    """Those devices of an instance that are an older generation of a volume on its member, as they should be."""
    found: dict[str, Mapping[str, str]] = {}
    location = str(raw.get("location") or "none")
    older = {(it.pool, it.name): homes[it.volume] for it in lying if it.generation and it.volume in homes}
    for key, device in (raw.get("devices") or {}).items():
        home = older.get((str(device.get("pool")), str(device.get("source"))))
        if home is not None and home.name != device["source"] and (home.member or "none") == location:
            found[key] = {**device, "source": home.name, "pool": home.pool}
    return found


def at(member: str) -> dict[str, str] | None:
    """The query of a request that a member is to answer."""
    return {"target": member} if member else None


def size_of(text: str) -> int:
    """Bytes, from LXD's words for them (``5GiB``, ``5GB``, ``100``); 0 for a size that it does not say in bytes."""
    found = re.fullmatch(r"([0-9]+)\s*([kKMGTPE]?)(i?)B?", text.strip())
    if found is None:
        return 0
    base = 1024 if found[3] else 1000
    return int(found[1]) * int(base ** " KMGTPE".index(found[2].upper() or " "))


def _home(name: str, lying: list[Lying], kept: Mapping[str, Kept]) -> Lying:
    """The volume itself, of all that lies under its name.

    LXD knows nothing of the volumes of a member that was removed from the cluster: while there are copies of such a
    one, it is the volume still.
    """
    all_of_it = [it for it in lying if it.volume == name]
    own = [it for it in all_of_it if it.generation]
    known = kept.get(name, Kept())
    said = [it for it in own if (it.name, it.member) == (known.name, known.member)]
    copies = [it for it in all_of_it if not it.generation]
    if known.name and not said and copies:
        parsed = _NAME.fullmatch(known.name)
        generation = int((parsed and parsed["generation"]) or 1)
        return copies[0]._replace(name=known.name, member=known.member, generation=generation)
    return max(said or own, key=lambda it: it.generation)
