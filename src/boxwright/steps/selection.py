"""What a COPY takes: paths and patterns become entries of trees."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.canonical import Value
from boxwright.model.glob import glob_to_regex
from boxwright.model.image import Snapshot
from boxwright.model.step import ContextSource, Copy, InlineSource, RemoteSource, SnapshotSource
from boxwright.model.tree import (
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    Manifest,
    directory_entry,
    encode_directory,
    encode_root,
    manifest_of,
)
from boxwright.ports import Contexts, ContextTree, PathRules, StepInputs, Workspace

WILD = frozenset("*?[")


class Origin(NamedTuple):
    """Where the bytes of a selection lie: a context's directory, a snapshot, or the text itself.

    `remote`: the snapshot is of something that was fetched, with the times of where it came from.
    """

    context: ContextTree | None = None
    snapshot: Snapshot | None = None
    text: bytes = b""
    remote: bool = False


class Selected(NamedTuple):
    """One thing to copy: `path` in its tree, `name` under which it lands in a directory."""

    path: str
    name: str
    entry: Entry
    origin: Origin

    @property
    def identity(self) -> tuple[Value, ...]:
        """What counts of it towards a key: not its time and, for a directory, not its own attributes.

        An owner other than root counts, which only files of snapshots have.
        """
        data = self.entry.content if self.entry.kind == DIRECTORY else self.entry.data
        name = self.name if self.entry.kind != DIRECTORY else ""
        found: tuple[Value, ...] = (self.entry.kind, name, self.entry.mode, data, self.entry.xattrs)
        owner = (self.entry.uid, self.entry.gid)
        return found if self.entry.kind == DIRECTORY or owner == (0, 0) else (*found, owner)


def select(workspace: Workspace, contexts: Contexts, step: Copy, inputs: StepInputs) -> tuple[Selected, ...] | None:
    """Everything that the step copies, in order; None while a snapshot that it reads has not been built.

    Symbolic links that are named are followed inside their tree. Raises BoxwrightError `copy.not-found` where a source
    is missing; a pattern may match nothing.
    """
    found: list[Selected] = []
    unwanted = contexts.matcher(step.exclude) if step.exclude else None
    for source in step.sources:
        if isinstance(source, InlineSource):
            found.append(_inline(source.name, source.text.encode()))
            continue
        tree = _tree(workspace, contexts, source, inputs)
        if tree is None:
            return None
        manifest, origin = tree
        if isinstance(source, RemoteSource):
            found.append(_remote(workspace, manifest, source, origin))
            continue
        for path in source.paths:
            if step.parents:
                found.append(_with_parents(workspace, contexts, manifest, path, origin))
            else:
                found.extend(_matches(workspace, manifest, path, origin))
    return tuple(found) if unwanted is None else _without(workspace, found, unwanted)


def _tree(
    workspace: Workspace, contexts: Contexts, source: ContextSource | SnapshotSource | RemoteSource, inputs: StepInputs
) -> tuple[Manifest, Origin] | None:
    if isinstance(source, ContextSource):
        context = contexts.tree(source.context)
        root = directory_entry("", 0o755, 0, context.link)
        return manifest_of(workspace.put(encode_root(root))), Origin(context=context)
    snapshot = inputs.snapshots[source.position]
    if snapshot is None:
        return None
    return snapshot.manifest, Origin(snapshot=snapshot, remote=isinstance(source, RemoteSource))


def _remote(workspace: Workspace, manifest: Manifest, source: RemoteSource, origin: Origin) -> Selected:
    located = workspace.locate(manifest, source.path)
    if located.entry is None:
        hint = "a path from the root of the repository is expected behind #REF:"
        raise BoxwrightError("copy.not-found", f"{source.path!r} is not in the repository", hint=hint)
    entry = _content_of(workspace, manifest, located.entry)
    return Selected(located.path, source.name, entry._replace(name=source.name), origin)


def _with_parents(workspace: Workspace, contexts: Contexts, manifest: Manifest, path: str, origin: Origin) -> Selected:
    """The directory at the pivot ``/./`` (else the root), with what the pattern behind it matches and no more."""
    from boxwright.steps.pruning import Choice, fixed_part, prune

    before, pivot, behind = path.partition("/./")
    place, pattern = (before, behind) if pivot else ("", path)
    pattern = posixpath.normpath("/" + pattern).lstrip("/")
    located = workspace.locate(manifest, posixpath.normpath("/" + place).lstrip("/"))
    if located.entry is None or located.entry.kind != DIRECTORY:
        raise _missing(path, origin)
    if not pattern:
        return Selected(located.path, "", located.entry, origin)
    choice = Choice(wanted=contexts.matcher((pattern,)), fixed=fixed_part(pattern))
    pruned = prune(workspace, located.entry, choice)
    if pruned is None:
        raise _missing(path, origin)
    return Selected(located.path, "", pruned, origin)


def _without(workspace: Workspace, found: list[Selected], unwanted: PathRules) -> tuple[Selected, ...]:
    """Patterns are relative to a directory that is copied; of a file they are matched with its name."""
    from boxwright.steps.pruning import Choice, prune

    kept: list[Selected] = []
    for item in found:
        if item.entry.kind != DIRECTORY:
            if not unwanted.ignored(item.name):
                kept.append(item)
            continue
        pruned = prune(workspace, item.entry, Choice(unwanted=unwanted))
        kept.append(item._replace(entry=pruned or item.entry.holding(workspace.put(encode_directory(())))))
    return tuple(kept)


def _inline(name: str, data: bytes) -> Selected:
    entry = Entry(FILE, name, 0o644, 0, 0, 0, len(data), hashlib.sha256(data).hexdigest())
    return Selected(name, name, entry, Origin(text=data))


def _matches(workspace: Workspace, manifest: Manifest, path: str, origin: Origin) -> list[Selected]:
    clean = posixpath.normpath("/" + path).lstrip("/")
    if WILD.isdisjoint(clean):
        located = workspace.locate(manifest, clean)
        if located.entry is None:
            raise _missing(path, origin)
        entry = _content_of(workspace, manifest, located.entry)
        return [Selected(located.path, posixpath.basename(clean), entry, origin)]
    matches: list[Selected] = []
    _expand(workspace, manifest, workspace.root(manifest), "", clean.split("/"), matches, origin)
    return matches


def _expand(
    workspace: Workspace,
    manifest: Manifest,
    directory: Entry,
    prefix: str,
    parts: list[str],
    matches: list[Selected],
    origin: Origin,
) -> None:
    pattern = re.compile(glob_to_regex(parts[0]))
    entries: Mapping[str, Entry] = workspace.entries(directory.full)
    for name, entry in entries.items():
        if not pattern.fullmatch(name):
            continue
        path = f"{prefix}{name}"
        if len(parts) == 1:
            matches.append(_followed(workspace, manifest, path, entry, origin))
        elif entry.kind == DIRECTORY:
            _expand(workspace, manifest, entry, f"{path}/", parts[1:], matches, origin)


def _followed(workspace: Workspace, manifest: Manifest, path: str, entry: Entry, origin: Origin) -> Selected:
    """A match; of a symbolic link what it leads to, under its own name."""
    if entry.kind != SYMLINK:
        return Selected(path, entry.name, _content_of(workspace, manifest, entry), origin)
    located = workspace.locate(manifest, path)
    if located.entry is None:
        raise _missing(path, origin)
    return Selected(located.path, entry.name, _content_of(workspace, manifest, located.entry), origin)


def _content_of(workspace: Workspace, manifest: Manifest, entry: Entry) -> Entry:
    """A hard link's entry as that of the file which it is."""
    if entry.kind != HARDLINK:
        return entry
    first = workspace.locate(manifest, entry.data, follow=False).entry
    if first is None:
        raise BoxwrightError("store.tree-damaged", f"the hard link {entry.data} leads nowhere")
    return first._replace(name=entry.name)


def _missing(path: str, origin: Origin) -> BoxwrightError:
    if origin.context is None:
        return BoxwrightError("copy.not-found", f"{path!r} is not in the tree that it is taken from")
    hint = "see that the path is relative to the build context and that no .dockerignore rule leaves it out"
    return BoxwrightError("copy.not-found", f"{path!r} is not in the build context", hint=hint)
