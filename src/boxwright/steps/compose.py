"""Compose: packages are laid into the state, with the shared libraries, users and links that a container needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from boxwright.model.canonical import Value
from boxwright.model.change import Change, Difference
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Compose, ComposedPackage, PackageUser, Step
from boxwright.model.tree import DIRECTORY, EMPTY, FILE, SYMLINK, Entry, directory_entry
from boxwright.ports import Fields, StepControl, StepInputs, TreeFile, Workspace
from boxwright.steps.accounts import ROOT, group, passwd
from boxwright.steps.distribution import Distribution
from boxwright.steps.expect import expect, parent_of
from boxwright.steps.graft import Write
from boxwright.steps.ldcache import write_cache
from boxwright.steps.linkage import USR_LINKS, Linkage, Missing, unresolved
from boxwright.steps.place import place_directories, set_directory_times
from boxwright.steps.selection import Origin
from boxwright.steps.union import Owned, Part, StateOwners, Union
from boxwright.steps.writing import write_files

FORMAT = 2
MOUNT_POINTS = (("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("run", 0o755), ("sys", 0o755), ("tmp", 0o1777))
GLIBC = "libc.so.6"


class Trees(Workspace, Protocol):
    """The store, with what reads a snapshot."""

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path of a snapshot."""
        ...


class Compositions(Protocol):
    """Remembers what was composed."""

    def keep_composition(self, layer: str, record: Mapping[str, Any]) -> None:
        """Remember which packages a layer was composed of."""
        ...


class ComposeKind:
    """Compose steps. `owners` says who owns what is in a state."""

    def __init__(self, workspace: Trees, compositions: Compositions, owners: Callable[[Snapshot], StateOwners]) -> None:
        self._workspace = workspace
        self._compositions = compositions
        self._owners = owners

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state, each package's content and what is taken of it, users, and the toolchains."""
        if None in inputs.states:
            return None
        compose = expect(step, Compose)
        count = len(compose.packages)
        packages: tuple[Value, ...] = tuple(
            (
                package.name,
                package.parts,
                package.wanted,
                package.replaces,
                tuple(user_fields(user) for user in package.users),
                state,
                *unshown(package),
            )
            for package, state in zip(compose.packages, inputs.states[1 : 1 + count], strict=True)
        )
        return (
            ("format", FORMAT),
            ("state", inputs.states[0]),
            ("packages", packages),
            ("users", tuple(user_fields(user) for user in compose.users)),
            ("overlay", compose.overlay),
            ("toolchains", inputs.states[1 + count :]),
        )

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Compose."""
        compose = expect(step, Compose)
        parent = parent_of(inputs)
        snapshots = [expect(snapshot, Snapshot) for snapshot in inputs.snapshots[1:]]
        union = Union(self._workspace, parent, self._owners(parent), whole=compose.overlay)
        for package, snapshot in zip(compose.packages, snapshots, strict=False):
            union.add(Part(package, snapshot))
        union.check()
        linkage = Linkage(self._workspace, parent, union)
        self._complete(union, linkage, snapshots[len(compose.packages) :], control)
        overlay = compose.overlay
        if replaced := linkage.replaced_libraries():
            overlay = False
            union.leave_out(replaced)
            linkage.refresh()
            self._complete(union, linkage, snapshots[len(compose.packages) :], control)
        made = self._made(compose, union, linkage, parent, control.epoch)
        snapshot = self._laid(union, made, parent, key, control, overlay=overlay)
        self._compositions.keep_composition(snapshot.layers[0], composition(union))
        return snapshot

    def _complete(self, union: Union, linkage: Linkage, toolchains: Sequence[Snapshot], control: StepControl) -> None:
        """Take the libraries that nothing has from the toolchains; raises where some stay missing."""
        missing = linkage.missing()
        for toolchain in toolchains if missing else ():
            distribution = Distribution(self._workspace, toolchain)
            while added := _providers(distribution, missing, union):
                for name, reason in added.items():
                    control.output(f"{name}: {reason}\n".encode())
                    package = ComposedPackage(name, reason=reason)
                    files = distribution.files(name.removeprefix("debian/").partition("=")[0])
                    union.add(Part(package, toolchain, frozenset(files)))
                union.check()
                linkage.refresh()
                missing = linkage.missing()
        if missing:
            raise unresolved(missing, union)

    def _made(
        self, compose: Compose, union: Union, linkage: Linkage, parent: Snapshot, epoch: int
    ) -> dict[str, tuple[Entry, bytes]]:
        """Files and directories that no package has: accounts, ld.so.cache and, where no system is, what each needs."""
        made: dict[str, tuple[Entry, bytes]] = {}

        def put(path: str, data: bytes, mode: int = 0o644) -> None:
            digest = hashlib.sha256(data).hexdigest()
            made[path] = (Entry(FILE, path.rpartition("/")[2], mode, 0, 0, epoch, len(data), digest), data)

        top = set(self._workspace.entries(self._workspace.root(parent.manifest).full))
        bare = not top & set(USR_LINKS)  # some files may be there already
        is_new = bare and linkage.find("etc/passwd") is None
        users: list[tuple[PackageUser, str]] = [(ROOT, "boxwright")] if is_new else []
        users += [(user, part.package.name) for part in union.parts for user in part.package.users]
        users += [(user, "container.yaml") for user in compose.users]
        for path, write in (("etc/passwd", passwd), ("etc/group", group)) if users else ():
            before = self._text(linkage, path)
            after = write(before, users)
            if after != before:
                put(path, after.encode("utf-8", "surrogateescape"))
        libraries = linkage.loadable() if linkage.find(f"lib/{GLIBC}") or _has_glibc(linkage) else {}
        cache = write_cache(libraries)
        if cache is not None:
            put("etc/ld.so.cache", cache)
        if bare:
            for name, mode in MOUNT_POINTS:
                if name not in top:
                    made[name] = (directory_entry(name, mode, epoch, EMPTY.link), b"")
            for name in USR_LINKS:
                if f"usr/{name}" in union.directories:
                    made[name] = (Entry(SYMLINK, name, 0o777, 0, 0, epoch, 0, f"usr/{name}"), b"")
        return made

    @staticmethod
    def _text(linkage: Linkage, path: str) -> str:
        place = linkage.find(path)
        physical = linkage.physical(place) if place else None
        if physical is None:
            return ""
        with open(physical, encoding="utf-8", errors="surrogateescape") as text:
            return text.read()

    def _laid(
        self,
        union: Union,
        made: Mapping[str, tuple[Entry, bytes]],
        parent: Snapshot,
        key: Digest,
        control: StepControl,
        *,
        overlay: bool,
    ) -> Snapshot:
        def is_written(path: str, owned: Owned) -> bool:
            return not overlay or union.parts[owned.part].paths is not None or path in union.replaced

        union.link(is_written)
        writes: dict[str, Write] = {}
        for path, owned in union.files.items():
            part = union.parts[owned.part]
            if is_written(path, owned):
                writes[path] = Write(path, owned.entry, owned.source, Origin(snapshot=part.snapshot), owned.entry)
        for path, (entry, data) in made.items():
            if entry.kind == DIRECTORY:
                union.directories.setdefault(path, (entry, -1))
                continue
            union.files[path] = Owned(entry, "", -1)
            writes[path] = Write(path, entry, "", Origin(text=data), entry)
        start = _stacked(union, parent) if overlay else parent
        changes: dict[str, Change] = union.changes()
        with self._workspace.draft(start) as draft:
            new = directory_entry("", 0o755, control.epoch, EMPTY.link)
            placed = place_directories(self._workspace, parent, draft.upper, changes, new)
            write_files(self._workspace, draft.upper, list(writes.values()), control.cancelled)
            set_directory_times(draft.upper, "", placed)
            size = sum(write.entry.size for write in writes.values() if write.entry.kind == FILE)
            difference = Difference(placed, size=size)
            return self._workspace.commit(key, start, draft, newest=control.epoch, difference=difference)

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key: packages count by content in it, and an image must know which packages, by name, are in it."""
        return key


def unshown(package: ComposedPackage) -> tuple[str, ...]:
    """The version where it is not what the name shows, behind its first hyphen with a digit: others keep their keys."""
    shown = re.search(r"-(\d[^/]*)$", package.name)
    return () if package.version in ("", shown[1] if shown else "") else (package.version,)


def user_fields(user: PackageUser) -> Value:
    """A user, as keys have it."""
    return (user.name, user.uid, user.gid, user.group, user.home, user.shell)


def _has_glibc(linkage: Linkage) -> bool:
    return any(linkage.find(f"{directory}/{GLIBC}") for directory in linkage.directories())


def _providers(distribution: Distribution, missing: Sequence[Missing], union: Union) -> dict[str, str]:
    """The distribution's packages that have what is missing, each with the reason why it is taken."""
    present = {part.package.name for part in union.parts}
    found: dict[str, str] = {}
    for lack in missing:
        name = distribution.package_of(lack.soname.rpartition("/")[2]) if not lack.version else None
        if name is None:
            continue
        whole = f"debian/{name}={distribution.versions.get(name, '')}"
        if whole not in present:
            by = union.parts[union.files[lack.by].part].package.name
            found.setdefault(whole, f"it has {lack.soname}, which /{lack.by} of {by} needs")
    return found


def _stacked(union: Union, parent: Snapshot) -> Snapshot:
    """The packages' own layers on top of each other, as one more layer will show them."""
    layers = [layer for part in reversed(union.parts) if part.paths is None for layer in part.snapshot.layers]
    return parent._replace(layers=tuple(dict.fromkeys(layers)))


def composition(union: Union) -> dict[str, Any]:
    """What is remembered of a composed layer: its packages, and whose each path is (-1: made by composition)."""
    packages = [
        {
            "name": part.package.name,
            "key": part.snapshot.key if part.paths is None else "",
            "reason": part.package.reason,
            "replaces": list(part.package.replaces),
        }
        for part in union.parts
    ]
    owners: dict[str, list[str]] = {}
    for path, owned in sorted(union.files.items()):
        owners.setdefault(str(owned.part), []).append(path)
    return {"packages": packages, "paths": owners}
