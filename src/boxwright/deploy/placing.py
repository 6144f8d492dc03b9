"""On which member of a cluster each new instance goes: spread, near its volume, where its ports are free. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from boxwright.deploy.replicas import TakeOver, take_over
from boxwright.model.deployment import OFFLINE, ONLINE, Instance, InstanceSpec, Member, Observed

DOMAIN, ANYWHERE = "domain", "none"


class Placing:
    """Where instances are, and will be when those that were chosen are there. One for each plan."""

    def __init__(self, observed: Observed) -> None:
        self._members = {it.name: it for it in observed.members}
        self._places = dict(observed.places)
        self._states = {it.name: it for it in observed.states}
        self._there: dict[str, tuple[str, InstanceSpec]] = {}
        self._taken_over: set[str] = set()

    @property
    def clustered(self) -> bool:
        """Whether there is anything to choose."""
        return bool(self._members)

    def stays(self, instance: Instance, spec: InstanceSpec) -> None:
        """An instance that is kept where it is."""
        self._there[spec.logical] = (instance.member, spec)

    def may_stay(self, instance: Instance, spec: InstanceSpec) -> bool:
        """Whether it is where it may be. What has a volume is with it, wherever that is."""
        home = self.home(spec)
        if not self._members:
            return True
        return home == instance.member if home else instance.member in self._allowed(spec)

    def home(self, spec: InstanceSpec) -> str:
        """The member of its volumes, one that is lost first; empty where it has none, or they can be had anywhere."""
        places = [self._places[it] for it in (*self._lost(mounted(spec)), *self._tied(mounted(spec)))]
        return next(iter(places), "")

    def takes(self, member: str) -> bool:
        """Whether something can be started there."""
        return not self._members or (member in self._members and self._members[member].state == ONLINE)

    def is_lost(self, member: str) -> bool:
        """Whether it does not answer at all, or is no member any more."""
        return member not in self._members or self._members[member].state == OFFLINE

    def choose(self, spec: InstanceSpec, before: str = "") -> str | None:
        """A member for a new instance, that of the one `before` it where it may be there; None where there is none."""
        if not self._members:
            return ""
        home = self.home(spec)
        allowed = [it for it in self._allowed(spec) if home in ("", it) and not self._occupied(it, spec)]
        if not allowed:
            return None
        chosen = before if before in allowed else min(allowed, key=lambda it: self._load(it, spec))
        self._there[spec.logical] = (chosen, spec)
        for volume in mounted(spec):
            self._places.setdefault(volume, chosen)
        return chosen

    def take_over(self, spec: InstanceSpec) -> TakeOver | None:
        """The member that has the newest copies of all its volumes that are lost, and those that are not.

        What it only reads comes first: whoever writes that takes it over.
        """
        lost = self.lost_volumes(spec)
        left = {self._places[it] for it in self._tied(mounted(spec)) if it not in lost}
        allowed = [it for it in self._allowed(spec) if left <= {it} and not self._occupied(it, spec)]
        found = take_over(lost, self._states, sorted(allowed, key=lambda it: self._load(it, spec)))
        if found is not None:
            self._there[spec.logical] = (found.member, spec)
            self._places.update(dict.fromkeys(lost, found.member))
            self._taken_over.update(lost)
        return found

    def comes_later(self, spec: InstanceSpec) -> bool:
        """Whether another instance takes over one of its volumes now, and is to have done so first."""
        return not self._taken_over.isdisjoint(mounted(spec))

    def lost_volumes(self, spec: InstanceSpec) -> tuple[str, ...]:
        """Those whose content it changes, and whose member does not answer."""
        return self._lost(written(spec))

    def _lost(self, volumes: Iterable[str]) -> tuple[str, ...]:
        return tuple(it for it in self._tied(volumes) if self._members and self.is_lost(self._places[it]))

    def _tied(self, volumes: Iterable[str]) -> tuple[str, ...]:
        """Those of volumes that are on one member alone."""
        return tuple(it for it in volumes if it in self._places)

    def _allowed(self, spec: InstanceSpec) -> list[str]:
        """Those that are there, take instances, and are among those that the stack names."""
        wanted = spec.placement.on
        return [it.name for it in self._members.values() if it.state == ONLINE and (not wanted or it.name in wanted)]

    def _occupied(self, member: str, spec: InstanceSpec) -> bool:
        """Whether another instance has one of its ports there."""
        others = (it for name, (place, it) in self._there.items() if place == member and name != spec.logical)
        return any(share_port(spec, it) for it in others)

    def _load(self, member: str, spec: InstanceSpec) -> tuple[int, int, int, str]:
        """The least is best: of its kind in the domain, of its kind there, of all there."""
        alike = [place for name, (place, it) in self._there.items() if it.container == spec.container]
        near = [it for it in alike if it in self._members and self._domain(it) == self._domain(member)]
        total = sum(place == member for place, _ in self._there.values())
        if spec.placement.spread == ANYWHERE:
            return 0, 0, total, member
        return len(near) if spec.placement.spread == DOMAIN else 0, alike.count(member), total, member

    def _domain(self, member: str) -> str:
        return self._members[member].domain


def written(spec: InstanceSpec) -> tuple[str, ...]:
    """The named volumes whose content an instance changes."""
    return tuple(it.source for it in spec.mounts if it.kind == "volume" and not it.read_only)


def mounted(spec: InstanceSpec) -> tuple[str, ...]:
    """The named volumes that an instance sees: where they lie it must be too."""
    return tuple(it.source for it in spec.mounts if it.kind == "volume")


def share_port(one: InstanceSpec, other: InstanceSpec) -> bool:
    """Whether both want a port of their host for themselves."""
    return any(a.meets(b) for a in one.ports for b in other.ports)


def silent(members: Iterable[Member]) -> set[str]:
    """The names of members that don't answer."""
    return {it.name for it in members if it.state == OFFLINE}
