"""Trees without what a COPY leaves out, or of what it names and no more (the reference, COPY --exclude, --parents)."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.tree import DIRECTORY, Entry, encode_directory
from boxwright.ports import PathRules, Workspace

WILD = frozenset("*?[\\")


class Choice(NamedTuple):
    """What stays: without `wanted`, all but what is `unwanted`. `fixed` are the path's components before a wildcard."""

    wanted: PathRules | None = None
    unwanted: PathRules | None = None
    fixed: tuple[str, ...] = ()


def fixed_part(pattern: str) -> tuple[str, ...]:
    """The leading components of a pattern that are plain names."""
    components = pattern.split("/")
    plain = next((number for number, item in enumerate(components) if not WILD.isdisjoint(item)), len(components))
    return tuple(components[:plain])


def prune(workspace: Workspace, directory: Entry, choice: Choice) -> Entry | None:
    """A directory with what `choice` says, None where that is nothing; its own attributes stay."""
    return _pruned(workspace, directory, "", choice, inside=choice.wanted is None)


def _pruned(workspace: Workspace, directory: Entry, path: str, choice: Choice, *, inside: bool) -> Entry | None:
    """`inside`: something above is wanted as a whole."""
    kept: list[Entry] = []
    before = workspace.entries(directory.full)
    for name, entry in before.items():
        place = f"{path}/{name}" if path else name
        if not inside and not _on_the_way(place, choice.fixed):
            continue
        wanted = inside or (choice.wanted is not None and choice.wanted.ignored(place))
        unwanted = choice.unwanted is not None and choice.unwanted.ignored(place)
        if entry.kind == DIRECTORY:
            below = _pruned(workspace, entry, place, choice, inside=wanted)
            if below is not None:
                kept.append(below)
            elif wanted and not unwanted:
                kept.append(entry.holding(workspace.put(encode_directory(()))))
        elif wanted and not unwanted:
            kept.append(entry)
    if not kept:
        return None
    if len(kept) == len(before) and all(before[entry.name] == entry for entry in kept):
        return directory
    return directory.holding(workspace.put(encode_directory(kept)))


def _on_the_way(path: str, fixed: tuple[str, ...]) -> bool:
    """Whether `path` leads to what is wanted, as far as that is plain."""
    return all(one == other for one, other in zip(path.split("/"), fixed, strict=False))
