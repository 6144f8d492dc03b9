"""What an unclean shutdown may have taken.

A commit writes nothing through to the disk, since that would cost more than the step. So a layer that was made before
this start of the machine may lack its last bytes, if the machine was not shut down in order; nobody can tell
afterwards how it was. Each layer notes at which start it was made; an empty note says that it is on the disk for
certain: a collection or fsck called sync(2) after it was made, or it was compared with its manifest since. A snapshot
with any other layer is compared, once, when it is first used again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.tree import Manifest
from boxwright.store.store import Store, boot_id
from boxwright.store.verify import Verifier, forget


class AfterBoot:
    """Looks snapshots up, and compares those that a shutdown may have damaged.

    `prepare` is called before the first comparison: as an ordinary user, layers are read inside the user namespace.
    """

    def __init__(self, store: Store, prepare: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._prepare = prepare
        self._verifier: Verifier | None = None
        self._boot = boot_id()
        self._doubtful = self._count() > 0

    def snapshot(self, key: Digest) -> Snapshot | None:
        """What is recorded under `key`; None also where it turned out to be damaged, and then it is forgotten."""
        snapshot = self._store.snapshot(key)
        if snapshot is None or not self._doubtful or self.verify(snapshot):
            return snapshot
        return None

    def verify(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot is what its manifest says. Costs one query where its layers are known to be well.

        The snapshots below it are compared too, since they show files that it hides.
        """
        names = _doubtful_layers(self._store, snapshot.layers, self._boot)
        if not names:
            return True
        if self._verifier is None:
            self._prepare()
            self._verifier = Verifier(self._store)
        damaged = [below.key for below in _below(self._store, snapshot) if self._verifier.snapshot(below)]
        if damaged:
            forget(self._store, damaged)
        if snapshot.key in damaged:
            return False
        _note(self._store, names)
        self._doubtful = self._count() > 0
        return True

    def _count(self) -> int:
        row = self._store.index.one("SELECT count(*) FROM layers WHERE boot NOT IN ('', ?)", (self._boot,))
        return int(row[0]) if row else 0


def note_synced(store: Store) -> None:
    """Write everything through to the disk, and note so for the layers of this start of the machine."""
    current = boot_id()
    newest = store.index.one("SELECT max(id) FROM layers")
    os.sync()
    with store.index.writing() as db:
        db.execute("UPDATE layers SET boot='' WHERE boot=? AND id<=?", (current, (newest or (0,))[0] or 0))


def note_verified(store: Store) -> None:
    """Note that every layer was compared: for fsck, which compared every snapshot."""
    os.sync()
    with store.index.writing() as db:
        db.execute("UPDATE layers SET boot=''")


def _doubtful_layers(store: Store, names: Sequence[str], boot: str) -> list[int]:
    numbers = [int(name, 36) for name in names]
    marks = ",".join("?" * len(numbers))
    return [
        row[0]
        for row in store.index.all(
            f"SELECT id FROM layers WHERE boot NOT IN ('', ?) AND id IN ({marks})",  # noqa: S608 - question marks
            (boot, *numbers),
        )
    ]


def _below(store: Store, snapshot: Snapshot) -> list[Snapshot]:
    """The snapshot and those whose chain of layers is the lower part of its own."""
    chains = [" ".join(snapshot.layers[start:]) for start in range(len(snapshot.layers))]
    marks = ",".join("?" * len(chains))
    rows = store.index.all(
        f"SELECT key, layers, full, content, epoch FROM snapshots WHERE layers IN ({marks})",  # noqa: S608 - likewise
        chains,
    )
    found = [Snapshot(Digest(k), tuple(c.split()), Manifest(Digest(f), Digest(t)), e) for k, c, f, t, e in rows]
    return found if any(item.key == snapshot.key for item in found) else [*found, snapshot]


def _note(store: Store, numbers: Sequence[int]) -> None:
    with store.index.writing() as db:
        db.executemany("UPDATE layers SET boot='' WHERE id=?", [(number,) for number in numbers])
