"""Differences between trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from boxwright.model.tree import Entry


class Change(NamedTuple):
    """What became of a name.

    Without `entry` and `children` it is gone. With `children` alone the directory keeps its own entry. A directory's
    `children` are the changes below it; when `opaque`, nothing of what was there before remains. A directory's entry
    without `children` stands for its whole tree, whose object is known.
    """

    entry: Entry | None
    children: Mapping[str, Change] | None = None
    opaque: bool = False


GONE = Change(None)

Groups = tuple[tuple[str, ...], ...]
"""Groups of hard links: each with its paths in order; the first is the one that holds the content."""


class Difference(NamedTuple):
    """What a draft changed, where the one who filled it knows: the changes, groups of hard links, bytes of files."""

    changes: Mapping[str, Change]
    groups: Groups = ()
    size: int = 0


class Draft(NamedTuple):
    """A layer that is being made: `upper` becomes the layer, `work` is the overlay's."""

    directory: str
    upper: str
    work: str


class Located(NamedTuple):
    """A path with every symbolic link in it followed: `entry` is None where nothing is there."""

    path: str
    entry: Entry | None


def with_change(changes: Mapping[str, Change], path: str, change: Change) -> dict[str, Change]:
    """`changes` with one more, at `path`."""
    name, _, rest = path.partition("/")
    result = dict(changes)
    if not rest:
        result[name] = change
        return result
    here = result.get(name, Change(None, {}))
    result[name] = here._replace(children=with_change(here.children or {}, rest, change))
    return result
