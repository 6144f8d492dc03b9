"""Tree objects: kept by digest in the index, verified at each read, brought up to date from differences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from boxwright.errors import StoreError
from boxwright.model.change import Change, Groups, Located, with_change
from boxwright.model.digest import hex_of
from boxwright.model.tree import (
    DIRECTORY,
    EMPTY,
    HARDLINK,
    SYMLINK,
    DirectoryObject,
    Entry,
    Manifest,
    decode_directory,
    encode_directory,
    encode_root,
    manifest_of,
)
from boxwright.store.index import Index

MAX_LINKS = 40
CACHED_DIRECTORIES = 2000


class Trees:
    """The tree objects of a store."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._pending: dict[str, bytes] = {}
        self._cache: dict[str, dict[str, Entry]] = {}

    def entries(self, full: str) -> dict[str, Entry]:
        """The entries of the directory object `full` (hexadecimal), by name. Not to be changed."""
        found = self._cache.get(full)
        if found is None:
            found = {entry.name: entry for entry in decode_directory(self._read(full))}
            if len(self._cache) >= CACHED_DIRECTORIES:
                self._cache.clear()
            self._cache[full] = found
        return found

    def _read(self, full: str) -> bytes:
        data = self._pending.get(full)
        if data is not None:
            return data
        if full == EMPTY.full:
            return EMPTY.data
        row = self._index.one("SELECT data FROM trees WHERE digest=?", (bytes.fromhex(full),))
        if row is None or hashlib.sha256(row[0]).hexdigest() != full:
            state = "is missing" if row is None else "does not have the bytes that its name says"
            raise StoreError("store.tree-damaged", f"the tree object {full[:12]} {state}", hint="run 'boxwright fsck'")
        return bytes(row[0])

    def has(self, full: str) -> bool:
        """Whether the directory object is here."""
        if full in self._pending or full in self._cache or full == EMPTY.full:
            return True
        return self._index.one("SELECT 1 FROM trees WHERE digest=?", (bytes.fromhex(full),)) is not None

    def put(self, directory: DirectoryObject) -> DirectoryObject:
        """Keep a directory object; it is written with the next `flush`."""
        self._pending[directory.full] = directory.data
        return directory

    def flush(self) -> None:
        """Write the pending objects, within the caller's transaction where there is one."""
        if not self._pending:
            return
        pending = dict(self._pending)
        with self._index.writing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO trees VALUES (?, ?)", [(bytes.fromhex(k), v) for k, v in pending.items()]
            )
        for full in pending:
            self._pending.pop(full, None)

    def root(self, manifest: Manifest) -> Entry:
        """The root directory's own entry."""
        return self.entries(hex_of(manifest.full))[""]

    def seal(self, root: Entry) -> Manifest:
        """The manifest of the tree with this root entry."""
        return manifest_of(self.put(encode_root(root)))

    def update(self, old: str | None, children: Mapping[str, Change]) -> DirectoryObject:
        """The directory `old` (None: nothing) with changes. Costs what changed and the way to it."""
        entries = dict(self.entries(old)) if old else {}
        for name, change in children.items():
            before = entries.get(name)
            if change.children is None:
                if change.entry is None:
                    entries.pop(name, None)
                else:
                    entries[name] = change.entry
                continue
            base = before.full if before and before.kind == DIRECTORY and not change.opaque else None
            own = change.entry or before
            if own is None:
                raise ValueError(f"a change below {name!r}, which is not there")
            entries[name] = own.holding(self.update(base, change.children))
        return self.put(encode_directory(entries.values()))

    def locate(self, manifest: Manifest, path: str, *, follow: bool = True) -> Located:
        """Follow `path` inside the tree, never out of it; the last link only if `follow`."""
        root = self.root(manifest)
        parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[tuple[str, Entry | None]] = []
        links = 0
        while parts:
            name = parts.pop()
            if name == "..":
                if done:
                    done.pop()
                continue
            parent = done[-1][1] if done else root
            entry = self.entries(parent.full).get(name) if parent and parent.kind == DIRECTORY else None
            if entry and entry.kind == SYMLINK and (parts or follow):
                links += 1
                if links > MAX_LINKS:
                    return Located(path, None)
                if entry.data.startswith("/"):
                    done.clear()
                parts.extend(part for part in reversed(entry.data.split("/")) if part not in ("", "."))
                continue
            done.append((name, entry))
        return Located("/".join(name for name, _ in done), done[-1][1] if done else root)

    def links(self, manifest: Manifest) -> Groups:
        """The groups of hard links, each with its paths in order; the first is the one that holds the content."""
        row = self._index.one("SELECT groups FROM links WHERE full=?", (manifest.full,))
        if not row:
            return ()
        return tuple(tuple(group.split("\0")) for group in row[0].split("\0\0"))

    def keep_links(self, manifest: Manifest, groups: Groups) -> None:
        """Remember the groups of a tree."""
        if groups:
            text = "\0\0".join("\0".join(group) for group in groups)
            with self._index.writing() as db:
                db.execute("INSERT OR IGNORE INTO links VALUES (?, ?)", (manifest.full, text))


def is_touched(changes: Mapping[str, Change], path: str) -> bool:
    """Whether `path` is one of what changed, or below something that went."""
    level: Mapping[str, Change] = changes
    for name in path.split("/"):
        change = level.get(name)
        if change is None:
            return False
        if change.children is None:
            return True
        level = change.children
        if change.opaque:
            return True
    return False


def rehome_links(
    trees: Trees, manifest: Manifest, changes: Mapping[str, Change], added: Groups
) -> tuple[Mapping[str, Change], Groups]:
    """Mend groups whose members changed: content moves to the first name that is left.

    Returns the changes with those mends, and the groups of the new tree.
    """
    groups: list[tuple[str, ...]] = list(added)
    for group in trees.links(manifest):
        left = tuple(path for path in group if not is_touched(changes, path))
        if left == group:
            groups.append(group)
            continue
        if left and left[0] != group[0]:
            first = trees.locate(manifest, group[0], follow=False).entry
            if first is None:
                raise StoreError("store.tree-damaged", f"the hard link {group[0]} leads nowhere")
            changes = with_change(changes, left[0], Change(first._replace(name=left[0].rpartition("/")[2])))
            for path in left[1:]:
                name = path.rpartition("/")[2]
                changes = with_change(changes, path, Change(first._replace(kind=HARDLINK, name=name, data=left[0])))
        if len(left) > 1:
            groups.append(left)
    return changes, tuple(sorted(groups))


def names_below(trees: Trees, full: str, prefix: str = "") -> Iterable[tuple[str, Entry]]:
    """Every path below a directory object, parents first."""
    for name, entry in trees.entries(full).items():
        path = f"{prefix}{name}"
        yield path, entry
        if entry.kind == DIRECTORY:
            yield from names_below(trees, entry.full, f"{path}/")
