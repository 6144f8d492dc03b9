"""Trees out of a repository: what the store has is linked, only what it lacks comes over, and all of it is checked."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.files import give_attributes, hash_file
from boxwright.model.change import Groups
from boxwright.model.digest import Digest, digest_from_hex, hex_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import (
    DIRECTORY,
    EMPTY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    DirectoryObject,
    Entry,
    Manifest,
    decode_directory,
    encode_directory,
)
from boxwright.repositories.binary.catalog import Catalog
from boxwright.repositories.binary.packs import (
    CONTENT,
    LARGE,
    LIST,
    TREE,
    Contents,
    Found,
    Item,
    chunk_list,
    chunks,
    ranges_for,
    read_index,
    read_range,
)
from boxwright.repositories.binary.place import at_once
from boxwright.repositories.binary.records import ImageEntry, TreeEntry
from boxwright.store.store import Store

NEAREST = 12
"""So many local trees are compared with the wanted one."""


class Pulled(NamedTuple):
    """A tree that is here now, and how many bytes of content came over for it (compressed)."""

    snapshot: Snapshot
    received: int


class _File(NamedTuple):
    path: str
    entry: Entry


def pull_tree(
    store: Store, catalog: Catalog, entry: ImageEntry | TreeEntry, key: Digest, cancelled: Callable[[], bool]
) -> Pulled:
    """Bring the tree of a checked record and record it under `key`. Raises FetchError; nothing is kept then."""
    with store.lock(key, cancelled):
        known = store.snapshot(key)
        if known is not None and known.manifest.full == entry.full:
            return Pulled(known, 0)
        return _Pull(store, catalog, entry, key).run()


class _Pull:
    def __init__(self, store: Store, catalog: Catalog, entry: ImageEntry | TreeEntry, key: Digest) -> None:
        self._store = store
        self._catalog = catalog
        self._entry = entry
        self._key = key
        self._received = 0
        self._what = entry.name or entry.content[:19]

    def run(self) -> Pulled:
        indexes = at_once(lambda pack: read_index(self._catalog.source, pack, self._catalog.cache), self._entry.packs)
        contents = Contents(list(zip(self._entry.packs, indexes, strict=True)))
        self._bring_objects(contents)
        manifest = Manifest(Digest(self._entry.full), Digest(self._entry.content))
        root = self._root(manifest)
        with self._store.draft(None) as draft:
            files, directories, groups = self._lay_out(root, draft.upper)
            near = self._nearest(manifest)
            missing = self._take_local(files, near, draft.upper)
            self._fetch(contents, missing, draft.upper, near)
            _link_groups(groups, draft.upper)
            for path, item in reversed(directories):
                give_attributes(f"{draft.upper}/{path}" if path else draft.upper, item)
            snapshot = self._store.adopt(self._key, manifest, groups, draft, size=root.size, epoch=self._entry.epoch)
        return Pulled(snapshot, self._received)

    # The manifest ---------------------------------------------------------------------------------------------------

    def _bring_objects(self, contents: Contents) -> None:
        """The directory objects that the store lacks, all at once where the topmost is one of them."""
        top = hex_of(Digest(self._entry.full))
        if self._store.has(top):
            return
        wanted = [it for it in contents.all_of(TREE) if not self._store.has(it.item.digest.hex())]
        for data in self._read_all(wanted):
            try:
                entries = decode_directory(data)
                self._store.put(_checked(entries, data))
            except (ValueError, UnicodeEncodeError) as error:
                raise self._wrong(f"a directory object is damaged: {error}") from error

    def _read_all(self, wanted: Sequence[Found]) -> list[bytes]:
        found: list[bytes] = []
        self._each(wanted, lambda _, data: found.append(data))
        return found

    def _each(self, wanted: Sequence[Found], use: Callable[[Item, bytes], None]) -> None:
        parts = ranges_for(wanted)
        self._received += sum(part.size for part in parts)
        at_once(lambda part: read_range(self._catalog.source, part, use), parts)

    def _root(self, manifest: Manifest) -> Entry:
        if not self._store.has(hex_of(manifest.full)):
            raise self._wrong("its directory is not in the packs")
        top = self._store.entries(hex_of(manifest.full))
        root = top.get("")
        if root is None or root.kind != DIRECTORY or len(top) != 1:
            raise self._wrong("its topmost object is none")
        if digest_from_hex(encode_directory([root]).content) != manifest.content:
            raise self._wrong("its two digests are of different trees")
        return root

    def _wrong(self, what: str) -> FetchError:
        return FetchError("repository.altered", f"{self._what} at {self._catalog.name}: {what}")

    # Laying out -----------------------------------------------------------------------------------------------------

    def _lay_out(self, root: Entry, upper: str) -> tuple[list[_File], list[tuple[str, Entry]], Groups]:
        """Make everything but files; returns them, the directories with their paths, and the groups of hard links."""
        files: list[_File] = []
        directories = [("", root)]
        groups: dict[str, list[str]] = {}
        pending = [("", root)]
        while pending:
            prefix, directory = pending.pop()
            for name, entry in self._entries(directory).items():
                path = f"{prefix}{name}"
                match entry.kind:
                    case "d":
                        os.mkdir(f"{upper}/{path}", 0o700)
                        directories.append((path, entry))
                        pending.append((f"{path}/", entry))
                    case "f":
                        files.append(_File(path, entry))
                    case "l":
                        os.symlink(entry.data, f"{upper}/{path}")
                        give_attributes(f"{upper}/{path}", entry)
                    case "h":
                        groups.setdefault(entry.data, [entry.data]).append(path)
                    case "p":
                        os.mkfifo(f"{upper}/{path}", 0o600)
                        give_attributes(f"{upper}/{path}", entry)
                    case _:
                        raise FetchError("repository.device", f"{self._what} holds {path}, which is a device")
        return files, directories, tuple(sorted(tuple(sorted(group)) for group in groups.values()))

    def _entries(self, directory: Entry) -> Mapping[str, Entry]:
        if directory.full != EMPTY.full and not self._store.has(directory.full):
            raise self._wrong("a directory is not in the packs")
        entries = self._store.entries(directory.full)
        for name, entry in entries.items():
            if name in ("", ".", "..") or "/" in name or entry.kind not in (
                DIRECTORY, FILE, SYMLINK, HARDLINK, FIFO, "c", "b",
            ):  # fmt: skip
                raise self._wrong(f"{name!r} can't be in a directory")
        return entries

    # What is here already -------------------------------------------------------------------------------------------

    def _nearest(self, manifest: Manifest) -> Snapshot | None:
        """The local image's tree that has most in common with the wanted one."""
        rows = self._store.index.all("SELECT key FROM images ORDER BY used DESC LIMIT ?", (NEAREST,))
        found = [it for row in rows if (it := self._store.snapshot(Digest(row[0]))) is not None]
        shared = [(self._shared(manifest, it), number) for number, it in enumerate(found)]
        best = max(shared, default=(0, 0))
        return found[best[1]] if best[0] else None

    def _shared(self, manifest: Manifest, other: Snapshot) -> int:
        """Bytes below the directories, two deep, that both have; files there count too."""

        def compare(one: Entry, two: Entry, depth: int) -> int:
            if one.data == two.data:
                return one.size + 1
            if one.kind != DIRECTORY or two.kind != DIRECTORY or not depth:
                return 0
            theirs = self._store.entries(two.full)
            return sum(
                compare(entry, theirs[name], depth - 1)
                for name, entry in self._store.entries(one.full).items()
                if name in theirs
            )

        return compare(self._store.root(manifest), self._store.root(other.manifest), 3)

    def _take_local(self, files: Sequence[_File], near: Snapshot | None, upper: str) -> list[_File]:
        """Link or copy what the nearest tree has; returns what is missing."""
        here = {it.entry.data: it for it in self._store.walk(near) if it.entry.kind == FILE} if near else {}
        linked: set[str] = set()
        missing: list[_File] = []
        for file in files:
            target = f"{upper}/{file.path}"
            found = here.get(file.entry.data)
            if not file.entry.size:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
                give_attributes(target, file.entry)
            elif found is None or found.physical is None:
                missing.append(file)
            elif _same(found.entry, file.entry) and found.physical not in linked and _is_plain(found.physical):
                linked.add(found.physical)  # only once: two names of one file would be a hard link
                os.link(found.physical, target, follow_symlinks=False)
            else:
                _copy(found.physical, target)
                give_attributes(target, file.entry)
        return missing

    # What comes over ------------------------------------------------------------------------------------------------

    def _fetch(self, contents: Contents, files: Sequence[_File], upper: str, near: Snapshot | None) -> None:
        """Write the files whose content must come: small ones whole, large ones chunk by chunk."""
        small = [file for file in files if file.entry.size <= LARGE]
        large = [file for file in files if file.entry.size > LARGE]
        targets: dict[str, list[str]] = {}
        for file in small:
            targets.setdefault(file.entry.data, []).append(f"{upper}/{file.path}")

        def write(item: Item, data: bytes) -> None:
            for target in targets[item.digest.hex()]:
                _write_new(target, data)

        self._each([self._found(contents, CONTENT, digest) for digest in targets], write)
        self._fetch_large(contents, large, upper, near)
        for file in files:
            give_attributes(f"{upper}/{file.path}", file.entry)

    def _fetch_large(self, contents: Contents, files: Sequence[_File], upper: str, near: Snapshot | None) -> None:
        places = self._places(contents, files, upper)
        here = set()
        for file in files:
            for data in self._old_chunks(near, file.path):
                digest = hashlib.sha256(data).hexdigest()
                if digest in places and digest not in here:
                    here.add(digest)
                    _write_at(places[digest], data)
        wanted = [self._found(contents, CONTENT, digest) for digest in places if digest not in here]
        self._each(wanted, lambda item, data: _write_at(places[item.digest.hex()], data))
        for file in files:
            if hash_file(f"{upper}/{file.path}") != file.entry.data:
                raise self._wrong(f"the chunks of {file.path} are not its content")

    def _places(self, contents: Contents, files: Sequence[_File], upper: str) -> dict[str, list[tuple[str, int]]]:
        """Where each chunk of the files goes: paths and offsets. The files are made."""
        lists: dict[str, list[str]] = {}
        wanted = [self._found(contents, LIST, digest) for digest in {file.entry.data for file in files}]
        self._each(wanted, lambda item, data: lists.__setitem__(item.digest.hex(), chunk_list(data)))
        places: dict[str, list[tuple[str, int]]] = {}
        for file in files:
            offset = 0
            target = f"{upper}/{file.path}"
            _write_new(target, b"")
            for digest in lists[file.entry.data]:
                places.setdefault(digest, []).append((target, offset))
                offset += self._found(contents, CONTENT, digest).item.plain
            if offset != file.entry.size:
                raise self._wrong(f"the chunks of {file.path} are not its content")
        return places

    def _old_chunks(self, near: Snapshot | None, path: str) -> Iterator[bytes]:
        """The chunks of the file that the nearest tree has in this place."""
        found = self._store.locate(near.manifest, path, follow=False).entry if near else None
        if near and found and found.kind == FILE and found.size > LARGE:
            physical = self._store.physical(near, path)
            if physical:
                yield from chunks(physical)

    def _found(self, contents: Contents, kind: str, digest: str) -> Found:
        found = contents.get(kind, digest)
        if found is None:
            raise self._wrong(f"content {digest[:12]} is not in its packs")
        return found


def _checked(entries: Sequence[Entry], data: bytes) -> DirectoryObject:
    """The object again, as this program writes it: what differs from that is none of ours."""
    made = encode_directory(entries)
    if made.data != data or len({entry.name for entry in entries}) != len(entries):
        raise ValueError("it is not in its one encoding")
    return made


def _link_groups(groups: Groups, upper: str) -> None:
    for first, *others in _with_content(groups, upper):
        for other in others:
            os.link(f"{upper}/{first}", f"{upper}/{other}", follow_symlinks=False)


def _with_content(groups: Groups, upper: str) -> Iterator[tuple[str, ...]]:
    """Each group, the name that has the file first."""
    for group in groups:
        there = [path for path in group if os.path.lexists(f"{upper}/{path}")]
        if len(there) != 1:
            raise FetchError("repository.altered", f"the hard link {group[-1]} leads nowhere")
        yield (there[0], *(path for path in group if path != there[0]))


def _same(one: Entry, other: Entry) -> bool:
    """Whether two files differ in their names alone."""
    return one._replace(name="") == other._replace(name="")


def _is_plain(path: str) -> bool:
    """Whether a file can have one more name: file systems have a limit, ext4's is 65,000."""
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and status.st_nlink < 60_000


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise FetchError("repository.no-space", f"{path} can't be written: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _write_at(places: Sequence[tuple[str, int]], data: bytes) -> None:
    for target, offset in places:
        descriptor = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, data, offset)
        except OSError as error:
            raise FetchError("repository.no-space", f"{target} can't be written: {error.strerror}") from error
        finally:
            os.close(descriptor)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as reading, open(target, "xb") as writing:
        while data := reading.read(1 << 20):
            writing.write(data)
