"""The union of packages: each path with its owner, where one path has one owner and everything else is a conflict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from boxwright.errors import BoxwrightError
from boxwright.model.change import Change
from boxwright.model.image import Snapshot
from boxwright.model.step import ComposedPackage
from boxwright.model.tree import DIRECTORY, EMPTY, FILE, HARDLINK, SYMLINK, Entry
from boxwright.ports import Workspace
from boxwright.steps.contents import glob_pattern

BASE = "base"
MOST_NAMED = 5
LEFT_OUT = re.compile(r"usr/share/(?:man|info|lintian|doc-base)/|usr/share/doc/(?!.*/copyright$)")
"""Of the distribution's packages, what a container doesn't need (Debian policy, 12.1, 12.5: the copyright stays)."""


class Part(NamedTuple):
    """A package that is laid down. `paths` restricts it to these paths of its snapshot."""

    package: ComposedPackage
    snapshot: Snapshot
    paths: frozenset[str] | None = None


class Owned(NamedTuple):
    """A file, symbolic link or such: its entry, where it is in the snapshot of the part at position `part`.

    Names of one file have the same `leader`: the first of them in the part's snapshot.
    """

    entry: Entry
    source: str
    part: int
    leader: str = ""


class StateOwners(Protocol):
    """Says who owns what is in the state already."""

    def owner(self, path: str) -> tuple[str, str]:
        """The package that owns a path of the state, and the version of one that was built; `base` where none does."""
        ...


class Union:
    """Gathers the files of parts. `parent` is the state that they are laid into; with `whole` nothing is left out.

    `replaced` are the paths that one part took over from another.
    """

    def __init__(self, workspace: Workspace, parent: Snapshot, owners: StateOwners, *, whole: bool = False) -> None:
        self.parts: list[Part] = []
        self.files: dict[str, Owned] = {}
        self.directories: dict[str, tuple[Entry, int]] = {}
        self.replaced: set[str] = set()
        self._whole = whole
        self._workspace = workspace
        self._parent = parent
        self._owners = owners
        self._places: dict[str, str] = {"": ""}
        self._conflicts: dict[tuple[str, str], list[str]] = {}
        self._bare = not workspace.entries(workspace.root(parent.manifest).full)

    def add(self, part: Part) -> None:
        """Add a part's files."""
        number = len(self.parts)
        self.parts.append(part)
        patterns = [
            (name, re.compile(glob_pattern(glob.removesuffix("@").lstrip("/"))), glob.endswith("@"))
            for name, globs in part.package.parts
            for glob in globs
        ]
        root = self._workspace.root(part.snapshot.manifest)
        self._directory(number, root, "", patterns)

    def check(self) -> None:
        """Raise `compose.conflict` where a path has two owners."""
        if not self._conflicts:
            return
        lines = []
        for (first, second), paths in sorted(self._conflicts.items()):
            named = ", ".join(f"/{path}" for path in sorted(paths)[:MOST_NAMED])
            more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
            lines.append(f"{named}{more} belong{'s' if len(paths) == 1 else ''} to {first} and to {second}")
        (first, second), _ = min(self._conflicts.items())
        raise BoxwrightError(
            "compose.conflict",
            "; ".join(lines),
            hint=f"leave one of them out, or say in the package that is to win: replaces: [{first}] (or [{second}])",
        )

    def changes(self) -> dict[str, Change]:
        """What the union changes in the state."""
        tree: dict[str, _Node] = {}
        for path, (entry, _) in self.directories.items():
            _node(tree, path).entry = None if self._in_state(path) else entry._replace(data=EMPTY.link, size=0)
        for path, owned in self.files.items():
            node = _node(tree, path)
            node.entry, node.is_file = owned.entry._replace(name=path.rpartition("/")[2]), True
        return _changes(tree)

    def leave_out(self, paths: Iterable[str]) -> None:
        """Take files away again."""
        for path in paths:
            del self.files[path]

    def link(self, groups: Callable[[str, Owned], object]) -> None:
        """Make links of the names of one file: those for which `groups` says the same, the first of them the file."""
        first: dict[object, str] = {}
        for path in sorted(self.files, key=_tree_order):
            owned = self.files[path]
            if not owned.leader:
                continue
            leader = first.setdefault((owned.part, owned.leader, groups(path, owned)), path)
            if leader != path:
                entry = owned.entry._replace(kind=HARDLINK, data=leader)
                self.files[path] = owned._replace(entry=entry)

    def state_entry(self, path: str) -> Entry | None:
        """What the state has at a path whose directory is no symbolic link."""
        return None if self._bare else self._workspace.locate(self._parent.manifest, path, follow=False).entry

    def _in_state(self, path: str) -> bool:
        entry = self.state_entry(path)
        return entry is not None and entry.kind == DIRECTORY

    def _directory(
        self, number: int, directory: Entry, path: str, patterns: Sequence[tuple[str, re.Pattern[str], bool]]
    ) -> bool:
        """Add what is below a directory; whether anything of it is kept."""
        part = self.parts[number]
        entries = self._workspace.entries(directory.full)
        kept = not entries and part.paths is None
        for name, entry in entries.items():
            source = f"{path}/{name}" if path else name
            if entry.kind == DIRECTORY:
                if self._directory(number, entry, source, patterns):
                    kept = True
            elif self._wanted(part, source, entry, patterns):
                kept = True
                self._file(number, source, entry)
        if kept and path:
            self._keep_directory(number, path, directory)
        return kept

    def _wanted(
        self, part: Part, source: str, entry: Entry, patterns: Sequence[tuple[str, re.Pattern[str], bool]]
    ) -> bool:
        if part.paths is not None and source not in part.paths:
            return False
        if self._whole:
            return True
        if part.package.name.startswith("debian/"):
            return not LEFT_OUT.match(source)
        found = next(
            (
                name
                for name, pattern, links in patterns
                if (not links or entry.kind == SYMLINK) and pattern.match(source)
            ),
            "",
        )
        return not found or found in part.package.wanted

    def _resolved(self, entry: Entry, snapshot: Snapshot) -> Entry:
        """A hard link as the file that it is."""
        if entry.kind != HARDLINK:
            return entry
        first = self._workspace.locate(snapshot.manifest, entry.data, follow=False).entry
        if first is None:
            raise BoxwrightError("store.tree-damaged", f"the hard link {entry.data} leads nowhere")
        return first._replace(name=entry.name)

    def _place(self, directory: str) -> str:
        """Where a directory is in the state, which may have a symbolic link there."""
        known = self._places.get(directory)
        if known is None:
            above, _, name = directory.rpartition("/")
            known = f"{self._place(above)}/{name}".lstrip("/")
            if not self._bare:
                entry = self.state_entry(known)
                if entry is not None and entry.kind == SYMLINK:
                    located = self._workspace.locate(self._parent.manifest, known)
                    if located.entry is not None and located.entry.kind == DIRECTORY:
                        known = located.path
            self._places[directory] = known
        return known

    def _file(self, number: int, source: str, found: Entry) -> None:
        entry = self._resolved(found, self.parts[number].snapshot)
        above, _, name = source.rpartition("/")
        target = f"{self._place(above)}/{name}".lstrip("/")
        if target in self.directories:
            self._conflict(target, self.directories[target][1], number)
            return
        other = self.files.get(target)
        if other is not None:
            self.replaced.add(target)
            if self.replaces(other.part, number):
                return
            if not self.replaces(number, other.part):
                self._conflict(target, other.part, number)
                return
        elif not self._bare and (there := self.state_entry(target)) is not None:
            owner, version = self._owners.owner(target)
            if there.kind == DIRECTORY or not named(self.parts[number].package.replaces, owner, version):
                self._note(target, owner if owner != BASE else "the base", self.parts[number].package.name)
                return
        leader = found.data if found.kind == HARDLINK else source if entry.kind == FILE else ""
        self.files[target] = Owned(entry, source, number, leader)

    def _keep_directory(self, number: int, source: str, entry: Entry) -> None:
        target = self._place(source)
        if target in self.files:
            self._conflict(target, self.files[target].part, number)
            return
        there = self.directories.get(target)
        if there is None or is_plain(there[0]):
            self.directories[target] = (entry, number)
        elif not is_plain(entry) and there[0][2:5] != entry[2:5] and not self.replaces(there[1], number):
            if self.replaces(number, there[1]):
                self.directories[target] = (entry, number)
            else:
                self._conflict(target, there[1], number)

    def replaces(self, winner: int, loser: int) -> bool:
        """Whether one part, by position, takes over files of another."""
        other = self.parts[loser].package
        return named(self.parts[winner].package.replaces, other.name, other.version)

    def _conflict(self, path: str, first: int, second: int) -> None:
        self._note(path, self.parts[first].package.name, self.parts[second].package.name)

    def _note(self, path: str, first: str, second: str) -> None:
        self._conflicts.setdefault((first, second), []).append(path)


def _tree_order(path: str) -> list[bytes]:
    """The order in which a walk through the tree meets paths."""
    return path.encode("utf-8", "surrogateescape").split(b"/")


def is_plain(entry: Entry) -> bool:
    """Whether a directory is like any other: root's, 0755."""
    return (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)


def named(names: Sequence[str], package: str, version: str) -> bool:
    """Whether one of `names` means `package`: with its category and version, without either, or without both.

    `version` is that of a package that was built; a distribution's name shows it.
    """
    stem = package.partition("=")[0] if package.startswith("debian/") else package.removesuffix(f"-{version}")
    short = package.rpartition("/")[2]
    return any(name in {package, stem, short, stem.rpartition("/")[2]} for name in names)


class _Node:
    """A path of the union while it is gathered."""

    __slots__ = ("below", "entry", "is_file")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.is_file = False
        self.below: dict[str, _Node] = {}


def _node(tree: dict[str, _Node], path: str) -> _Node:
    *parents, name = path.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, _Node()).below
    return tree.setdefault(name, _Node())


def _changes(tree: Mapping[str, _Node]) -> dict[str, Change]:
    return {
        name: Change(node.entry) if node.is_file else Change(node.entry, _changes(node.below))
        for name, node in tree.items()
    }
