"""A flat tree shared out among layers, so that a small change of the tree changes small layers.

Every path but directories is in exactly one layer; nothing hides anything, so the tree is that of the flat image. What
is chosen depends on the tree and on who owns its files, never on earlier builds. Files keep together by package,
without its version, else by directory; what is large gets a layer of its own, the rest goes to layers by a hash of its
name. How many layers there are depends on sizes through powers of two alone, so that it seldom changes.

A directory's time changes with any file in it. So the last layer has all directories as they are; in the others, which
need them for the modes of what they unpack into, their time is 0.

The same idea: rpm-ostree's "chunking" of packages, Nix's buildLayeredImage, both without the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from boxwright.images.layer import Layer
from boxwright.images.members import Member
from boxwright.model.tree import DIRECTORY

DEFAULT_LAYERS = 64
"""As rpm-ostree has it; Docker takes 127 with what is built on top."""

MOST_LAYERS = 120
PART = 1 << 20
"""About so much is worth a layer."""

_LARGE_FILE = 4 << 20
_HEAD = 512
_ALONE_SHARE = 4
_LOOSE_WEIGHT = 4


class _Unit(NamedTuple):
    """Files that stay together: those of a package, of a directory, or one large file."""

    owned: bool
    name: str


def chosen_layers(found: Iterable[Member], owner: Callable[[str], str], most: int) -> tuple[Layer, ...]:
    """The layers of a tree whose members are `found` (in the order of a walk), at most `most` (2 or more).

    `owner` gives the package that a path belongs to, without its version, or nothing.
    """
    everything = list(found)
    units = _units(everything, owner)
    sizes: dict[_Unit, int] = {}
    for member in everything:
        if member.entry.kind != DIRECTORY:
            unit = units[member.path]
            sizes[unit] = sizes.get(unit, 0) + _HEAD + (member.entry.size if member.link is None else 0)
    places = _places(sizes, most - 1)
    contents: dict[tuple[int, str], list[Member]] = {place: [] for place in sorted(set(places.values()))}
    seen: dict[tuple[int, str], set[str]] = {place: set() for place in contents}
    directories = {member.path: member for member in everything if member.entry.kind == DIRECTORY}
    for member in everything:
        if member.entry.kind != DIRECTORY:
            place = places[units[member.path]]
            contents[place].extend(_above(member.path, directories, seen[place]))
            contents[place].append(member)
    layers = [Layer(f"boxwright: {place[1]}", _giving(members)) for place, members in contents.items()]
    return (*layers, Layer("boxwright: directories", _giving(list(directories.values()))))


def _giving(found: list[Member]) -> Callable[[], Iterable[Member]]:
    return lambda: found


def _above(path: str, directories: Mapping[str, Member], seen: set[str]) -> list[Member]:
    """The directories above `path` that a layer doesn't have yet, from the root down."""
    missing: list[Member] = []
    while path:
        path = path.rpartition("/")[0]
        if path in seen:
            break
        seen.add(path)
        member = directories[path]
        missing.append(member._replace(entry=member.entry._replace(mtime=0)))
    return missing[::-1]


def _units(everything: Sequence[Member], owner: Callable[[str], str]) -> dict[str, _Unit]:
    """The unit of each path that is no directory. Hard links are where their content is."""
    units: dict[str, _Unit] = {}
    sizes: dict[str, int] = {}
    for path, entry, _, link in everything:
        if entry.kind == DIRECTORY:
            continue
        if link is not None:
            units[path] = units[link]
            continue
        package = owner(path)
        if package:
            units[path] = _Unit(True, package)
        elif entry.size >= _LARGE_FILE:
            units[path] = _Unit(False, f"/{path}")
        else:
            directory = path.rpartition("/")[0]
            units[path] = _Unit(False, f"/{directory}")
            sizes[directory] = sizes.get(directory, 0) + entry.size + _HEAD
    split = {f"/{directory}": _power(size // PART) for directory, size in sizes.items() if size >= 2 * PART}
    for path, entry, _, link in everything if split else ():
        if link is None and entry.kind != DIRECTORY and entry.size < _LARGE_FILE and not units[path].owned:
            name = units[path].name
            if name in split:
                units[path] = _Unit(False, f"{name} ({_spread(path, split[name]) + 1} of {split[name]})")
        elif link is not None:
            units[path] = units[link]
    return units


def _places(sizes: Mapping[_Unit, int], most: int) -> dict[_Unit, tuple[int, str]]:
    """The layer of each unit: its place from the bottom up, what seldom changes first, and what it is called."""
    large = sorted((unit for unit in sizes if sizes[unit] >= PART), key=lambda unit: (-_power(sizes[unit]), unit))
    alone = frozenset(large[: most // _ALONE_SHARE])
    left = [unit for unit in sizes if unit not in alone]
    owned, loose = _shares(
        sum(sizes[unit] for unit in left if unit.owned),
        sum(sizes[unit] for unit in left if not unit.owned),
        most - most // _ALONE_SHARE,
    )
    places: dict[_Unit, tuple[int, str]] = {}
    for unit in sizes:
        if unit in alone:
            places[unit] = (0 if unit.owned else 2, unit.name)
        elif unit.owned:
            places[unit] = (1, f"packages {_spread(unit.name, owned) + 1:02} of {owned:02}")
        elif owned + loose <= 1:
            places[unit] = (1, "packages 01 of 01")
        else:
            places[unit] = (3, f"files {_spread(unit.name, loose) + 1:02} of {loose:02}")
    return places


def _shares(owned: int, loose: int, most: int) -> tuple[int, int]:
    """How many layers packages get and how many other files, of `most`. Files are changed more often than packages."""
    wanted_owned = _power(owned // PART) if owned else 0
    wanted_loose = _power(loose // PART) if loose else 0
    if wanted_owned + wanted_loose <= most:
        return wanted_owned, wanted_loose
    if most == 1:
        return 1, 0
    weight = wanted_loose * _LOOSE_WEIGHT
    loose_layers = min(wanted_loose, most * weight // (weight + wanted_owned))
    if wanted_owned:
        loose_layers = min(loose_layers, most - 1)
    if wanted_loose:
        loose_layers = max(loose_layers, 1)
    return min(wanted_owned, most - loose_layers), loose_layers


def _power(number: int) -> int:
    """The least power of two that is not less than `number`, at least 1."""
    return 1 << max(number - 1, 0).bit_length()


def _spread(name: str, count: int) -> int:
    """A number below `count` that depends on the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count
