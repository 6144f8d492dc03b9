"""Which snapshots and layers go: the least recently used first, never what is needed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from boxwright.store.measure import Account


@dataclass(frozen=True, slots=True)
class Kept:
    """A recorded snapshot, as the choice sees it."""

    key: str
    layers: tuple[str, ...]
    used: int
    protected: bool


@dataclass(slots=True)
class Choice:
    """What goes."""

    keys: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)


def choose(
    snapshots: Sequence[Kept], layers: Collection[str], held: Collection[str], account: Account, limit: int | None
) -> Choice:
    """Drop layers that nothing names, then snapshots until `limit` bytes are left (None: no limit).

    `held` are layers that stay whoever names them. A step is as recently used as what was built on it, since its layer
    stays for that anyway; of equally recent ones, the last step of a chain goes first.
    """
    users = Counter(name for snapshot in snapshots for name in snapshot.layers)
    users.update(held)
    choice = Choice()
    _drop(choice, [name for name in layers if not users[name]], account)
    if limit is None:
        return choice
    recent: dict[str, int] = {}
    for snapshot in snapshots:
        for name in snapshot.layers:
            recent[name] = max(recent.get(name, 0), snapshot.used)
    order = sorted(
        (snapshot for snapshot in snapshots if not snapshot.protected),
        key=lambda it: (recent[it.layers[0]] if it.layers else it.used, -len(it.layers), it.key),
    )
    for snapshot in order:
        if account.total <= limit:
            break
        choice.keys.append(snapshot.key)
        users.subtract(snapshot.layers)
        _drop(choice, [name for name in snapshot.layers if not users[name]], account)
    return choice


def _drop(choice: Choice, names: Sequence[str], account: Account) -> None:
    choice.layers.extend(names)
    account.drop(names)
