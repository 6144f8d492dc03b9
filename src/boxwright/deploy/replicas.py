"""Copies of volumes on other members: where they go, when they are due, who takes over from them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from boxwright.errors import UsageError
from boxwright.model.deployment import ONLINE, Desired, Member, VolumeSpec
from boxwright.model.volumes import (
    LATE_SECONDS,
    PROMISED_SECONDS,
    RENEWED_SECONDS,
    GuardNote,
    VolumeSnapshot,
    VolumeState,
)

REPLICA = "replica"
SCHEDULED = "auto-"
"""Before the names of snapshots that are taken by schedule."""


class TakeOver(NamedTuple):
    """A member that has copies of all volumes of an instance, and of what time the oldest of these is."""

    member: str
    time: float


def take_over(volumes: Iterable[str], states: Mapping[str, VolumeState], allowed: Sequence[str]) -> TakeOver | None:
    """The member with the newest copies, of those that are `allowed`; of equal ones the first. None without copies.

    What an instance starts from is as old as the oldest of its volumes.
    """
    needed = [states.get(name, VolumeState(name)) for name in volumes]
    best: TakeOver | None = None
    for member in allowed:
        times = [next((it.time for it in state.copies if it.member == member), None) for state in needed]
        known = [it for it in times if it is not None]
        if known and len(known) == len(times) and (best is None or min(known) > best.time):
            best = TakeOver(member, min(known))
    return best


def copy_targets(
    spec: VolumeSpec, state: VolumeState, members: Sequence[Member], load: Mapping[str, int]
) -> tuple[str, ...]:
    """On which members copies are to be: so many as the stack says, of those that are there.

    Those that have one already first, then members that don't fail together with the volume's own, then those with the
    least copies (`load`).
    """
    domains = {it.name: it.domain for it in members}
    have = {it.member for it in state.copies}
    online = [it.name for it in members if it.state == ONLINE and it.name != state.member]

    def rank(name: str) -> tuple[bool, bool, int, str]:
        return name not in have, domains[name] == domains.get(state.member, ""), load.get(name, 0), name

    return tuple(sorted(online, key=rank)[: max(0, spec.replicate - 1)])


def copies_due(
    desired: Desired, states: Iterable[VolumeState], members: Sequence[Member], now: float
) -> dict[str, tuple[str, ...]]:
    """For each volume the members whose copies are missing or too old. A volume whose member is away has none."""
    known = {it.name: it for it in states}
    online = {it.name for it in members if it.state == ONLINE}
    load: dict[str, int] = {}
    for state in known.values():
        for copy in state.copies:
            load[copy.member] = load.get(copy.member, 0) + 1
    found: dict[str, tuple[str, ...]] = {}
    for spec in desired.volumes:
        state = known.get(spec.name, VolumeState(spec.name))
        if spec.replicate < 2 or state.member not in online:
            continue
        times = {it.member: it.time for it in state.copies}
        targets = copy_targets(spec, state, members, load)
        for it in targets:
            load[it] = load.get(it, 0) + (it not in times)
        due = tuple(it for it in targets if now - times.get(it, 0.0) >= spec.copy_every)
        if due:
            found[spec.name] = due
    return found


def copies_unwanted(spec: VolumeSpec, state: VolumeState) -> tuple[str, ...]:
    """Members whose copies are more than the stack wants; the oldest. One on the volume's own member is no use."""
    others = sorted((it for it in state.copies if it.member != state.member), key=lambda it: it.time, reverse=True)
    own = [it.member for it in state.copies if it.member == state.member]
    return (*own, *(it.member for it in others[max(0, spec.replicate - 1) :]))


def snapshot_due(spec: VolumeSpec, snapshots: Iterable[VolumeSnapshot], now: float) -> bool:
    """Whether it is time for the next one that the stack's schedule wants."""
    last = max((it.time for it in snapshots if it.name.startswith(SCHEDULED)), default=0.0)
    return spec.snapshot_every > 0 and now - last >= spec.snapshot_every


def snapshots_over(spec: VolumeSpec, snapshots: Iterable[VolumeSnapshot]) -> tuple[str, ...]:
    """The names of scheduled ones that are too many, the oldest first. Those that somebody else made stay."""
    own = sorted((it for it in snapshots if it.name.startswith(SCHEDULED)), key=lambda it: (it.time, it.name))
    return tuple(it.name for it in own[: max(0, len(own) - spec.snapshot_keep)])


class Patience(NamedTuple):
    """Times of `watch`, in seconds. What has no volume is started elsewhere after `member`.

    A member without quorum stops its own instances whose volumes others may take over after `stop` (T1); the others
    take over after `take_over` (T2).
    """

    member: float = 10.0
    stop: float = 20.0
    take_over: float = 30.0
    margin: float = 8.0

    @property
    def grace(self) -> float:
        """For how long an instance that is stopped may end by itself: half of what is left then."""
        return (self.take_over - self.stop) / 2


def check_patience(patience: Patience) -> Patience:
    """`patience`, where others take over only after a member has surely stopped. Raises UsageError `usage.take-over`.

    `margin` is how much later that is at least: the grace, and what a guard may be late.
    """
    if not patience.take_over - patience.stop >= patience.margin:  # also where one is no number
        message = (
            f"others would take over after {patience.take_over:g} s, while the member stops its instances after "
            f"{patience.stop:g} s, and may need some seconds for that"
        )
        hint = f"--take-over-after must be at least {patience.margin:g} more than --stop-after"
        raise UsageError("usage.take-over", message, hint=hint)
    return patience


def given_up(
    silent: Mapping[str, float],
    guards: Mapping[str, GuardNote],
    fenced: Collection[str],
    patience: Patience,
    now: float,
) -> set[str]:
    """Members whose volumes may be taken over. `silent`: for how many seconds they have been, `now` by the clock.

    `guards` are members on which a `watch` stops instances without a quorum: a member without one when its silence
    began, or with one that waits as long as this one, may still run them. What is `fenced` runs nothing. A member that
    can't be reached from here may have had its quorum for longer: until its guard wrote that down no more.
    """
    late = {
        name for name, seconds in silent.items() if name in guards and _is_over(seconds, guards[name], patience, now)
    }
    return late | (set(fenced) & set(silent))


def _is_over(seconds: float, note: GuardNote, patience: Patience, now: float) -> bool:
    if note.ended_after >= patience.take_over or note.until < now - seconds:
        return False
    alone = now - (note.until - PROMISED_SECONDS) - RENEWED_SECONDS - LATE_SECONDS
    return min(seconds, alone) >= patience.take_over
