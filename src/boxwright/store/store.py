"""The store: snapshots in, snapshots out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

from boxwright.errors import StoreError
from boxwright.files import give_attributes
from boxwright.model.change import Difference, Draft, Groups, Located
from boxwright.model.digest import Digest, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import EMPTY, DirectoryObject, Entry, Manifest, directory_entry
from boxwright.ports import TreeFile
from boxwright.store import layers as on_disk
from boxwright.store.drafts import Drafts
from boxwright.store.home import Home, unusable
from boxwright.store.index import Index
from boxwright.store.locks import locked
from boxwright.store.scan import scan_upper
from boxwright.store.trees import Trees, rehome_links


class Store:
    """Everything kept on this machine. Safe for threads and for many processes at once."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.index = Index(home.database)
        self.trees = Trees(self.index)
        self._drafts = Drafts(home)

    def close(self) -> None:
        """Let go of what this process holds."""
        self._drafts.close()
        self.index.close()

    def snapshot(self, key: Digest) -> Snapshot | None:
        """What is recorded under `key`."""
        row = self.index.one("SELECT layers, full, content, epoch FROM snapshots WHERE key=?", (key,))
        if row is None:
            return None
        return Snapshot(key, tuple(row[0].split()), Manifest(row[1], row[2]), row[3])

    def by_content(self, content: Digest) -> Snapshot | None:
        """Some snapshot of this very content."""
        row = self.index.one("SELECT key FROM snapshots WHERE content=? LIMIT 1", (content,))
        return self.snapshot(row[0]) if row else None

    def by_full(self, full: Digest) -> Snapshot | None:
        """Some snapshot of this very tree, times included."""
        row = self.index.one("SELECT key FROM snapshots WHERE full=? LIMIT 1", (full,))
        return self.snapshot(row[0]) if row else None

    def may_be_damaged(self) -> bool:
        """Whether some layer is from an earlier start of the machine, and never known to be on the disk (afterboot)."""
        return self.index.one("SELECT 1 FROM layers WHERE boot NOT IN ('', ?) LIMIT 1", (boot_id(),)) is not None

    def touch(self, keys: list[Digest]) -> None:
        """Note that these were used, for the collection of what is not."""
        now = int(time.time())
        stale = [
            key
            for key in keys
            if self.index.one("SELECT 1 FROM snapshots WHERE key=? AND used<?", (key, now - USED_RESOLUTION))
        ]
        if stale:
            with self.index.writing() as db:
                db.executemany("UPDATE snapshots SET used=? WHERE key=?", [(now, key) for key in stale])

    def lock(self, key: Digest, cancelled: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Hold the right to make what is recorded under `key`."""
        return locked(self.home.locks, hex_of(key), cancelled)

    @contextmanager
    def draft(self, parent: Snapshot | None) -> Iterator[Draft]:
        """A place for a new layer on top of `parent`; what was not committed is gone afterwards.

        The overlay shows the attributes of the upper directory as those of the root: they are the parent's.
        """
        draft = self._drafts.take()
        try:
            os.mkdir(draft.upper, 0o755)
            give_attributes(draft.upper, self.trees.root(parent.manifest) if parent else EMPTY_ROOT)
        except OSError as error:
            raise unusable(self.home.root, error) from error
        try:
            yield draft
        finally:
            self._drafts.give_back(draft)

    def scratch(self) -> str:
        """A new empty directory that lasts until the store is closed."""
        return self._drafts.scratch()

    def commit(
        self,
        key: Digest,
        parent: Snapshot | None,
        draft: Draft,
        *,
        newest: int | None,
        difference: Difference | None = None,
        expected: Digest | None = None,
    ) -> Snapshot:
        """Record a draft on top of `parent` under `key`. Without `difference` the draft is read.

        Where its content is not `expected` nothing is recorded: StoreError `store.unexpected`. With a parent, its root
        directory's entry stays where the draft's is the one it was made with.
        """
        if difference is None:
            scan = scan_upper(draft.upper, newest)
            difference = Difference(scan.changes, scan.groups, scan.size)
            root = scan.root
            if parent is not None and not scan.changes and root == _without_tree(self.trees.root(parent.manifest)):
                return self.alias(key, parent._replace(epoch=_epoch(newest)))
        else:
            root = self.trees.root(parent.manifest) if parent else EMPTY_ROOT
        if parent is not None:
            manifest, groups = self._updated(parent, root, difference)
        else:
            tree = self.trees.update(None, difference.changes)
            manifest, groups = self.trees.seal(root.holding(tree)), difference.groups
        if expected not in (None, manifest.content):
            raise StoreError("store.unexpected", f"the tree is {manifest.content}, not {expected}")
        chain = self._shortened(parent.layers if parent else (), draft)
        return self._record(key, chain, manifest, groups, draft, difference.size, newest)

    def _updated(self, parent: Snapshot, root: Entry, difference: Difference) -> tuple[Manifest, Groups]:
        changes, groups = rehome_links(self.trees, parent.manifest, difference.changes, difference.groups)
        old = self.trees.root(parent.manifest)
        tree = self.trees.update(old.full, changes)
        return self.trees.seal(root.holding(tree)), groups

    def _shortened(self, chain: tuple[str, ...], draft: Draft) -> tuple[str, ...]:
        """`chain`, with all but its lowest layer merged into one where it is too long."""
        if len(chain) < on_disk.MAX_CHAIN:
            return chain
        merged = f"{draft.directory}/merged"
        on_disk.merge([f"{self.home.layers}/{name}" for name in chain[:-1]], merged)
        with self.index.writing():
            name = self._place(merged, 0)
        return (name, chain[-1])

    def _record(
        self,
        key: Digest,
        chain: tuple[str, ...],
        manifest: Manifest,
        groups: Groups,
        draft: Draft,
        size: int,
        newest: int | None,
    ) -> Snapshot:
        with self.index.writing() as db:
            self.trees.flush()
            self.trees.keep_links(manifest, groups)
            name = self._place(draft.upper, size)
            snapshot = Snapshot(key, (name, *chain), manifest, _epoch(newest))
            self._insert(db.execute, snapshot)
        return snapshot

    def adopt(
        self, key: Digest, manifest: Manifest, groups: Groups, draft: Draft, *, size: int, epoch: int
    ) -> Snapshot:
        """Record a draft that is the whole tree of a manifest, whose directory objects were put."""
        return self._record(key, (), manifest, groups, draft, size, epoch)

    def alias(self, key: Digest, snapshot: Snapshot) -> Snapshot:
        """Record an existing snapshot under another key."""
        known = Snapshot(key, snapshot.layers, snapshot.manifest, snapshot.epoch)
        with self.index.writing() as db:
            self.trees.flush()
            self._insert(db.execute, known)
        return known

    def empty(self, key: Digest) -> Snapshot:
        """Record the empty tree."""
        with self.draft(None) as draft:
            return self.commit(key, None, draft, newest=0, difference=Difference({}))

    @staticmethod
    def _insert(execute: Callable[..., object], snapshot: Snapshot) -> None:
        execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)",
            (
                snapshot.key,
                " ".join(snapshot.layers),
                snapshot.manifest.full,
                snapshot.manifest.content,
                snapshot.epoch,
                int(time.time()),
            ),
        )

    def _place(self, directory: str, size: int) -> str:
        """Move a directory among the layers, within the caller's transaction, which alone gives out numbers."""
        with self.index.writing() as db:
            number = db.execute("INSERT INTO layers (size, boot) VALUES (?, ?)", (size, boot_id())).lastrowid
            name = on_disk.layer_name(number or 0)
            place = f"{self.home.layers}/{name}"
            if os.path.lexists(place):
                # A process was killed between its move and its commit: nothing names this directory.
                os.rename(place, self._drafts.aside(name))
            os.rename(directory, place)
        return name

    def entries(self, full: str) -> dict[str, Entry]:
        """The entries of a directory object, by name."""
        return self.trees.entries(full)

    def put(self, directory: DirectoryObject) -> DirectoryObject:
        """Keep a directory object."""
        return self.trees.put(directory)

    def has(self, full: str) -> bool:
        """Whether a directory object is here."""
        return self.trees.has(full)

    def root(self, manifest: Manifest) -> Entry:
        """The root directory's own entry."""
        return self.trees.root(manifest)

    def locate(self, manifest: Manifest, path: str, *, follow: bool = True) -> Located:
        """Follow `path` inside the tree, never out of it."""
        return self.trees.locate(manifest, path, follow=follow)

    def links(self, manifest: Manifest) -> Groups:
        """The groups of hard links, each with its paths in order; the first is the one that holds the content."""
        return self.trees.links(manifest)

    def last_copy(self, slot: str) -> tuple[Digest, str] | None:
        """The newest COPY of this place: its key, and what it was made of."""
        row = self.index.one("SELECT key, sources FROM copies WHERE slot=?", (slot,))
        return (row[0], row[1]) if row else None

    def keep_copy(self, slot: str, key: Digest, sources: str) -> None:
        """Remember a COPY, so that the next one of this place costs only what changed."""
        with self.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (slot, key, sources))

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path of a snapshot with the place of its bytes."""
        return on_disk.walk(self.trees, self.home.layers, snapshot)

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        """Where the bytes of `path` lie."""
        return on_disk.physical_path(self.home.layers, snapshot, path)


USED_RESOLUTION = 3600

EMPTY_ROOT = directory_entry("", 0o755, 0, EMPTY.link)


def _epoch(newest: int | None) -> int:
    return newest if newest is not None else int(time.time())


def _without_tree(root: Entry) -> Entry:
    """A root's own attributes."""
    return root._replace(data="", size=0)


@cache
def boot_id() -> str:
    """The kernel's name for this start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
