"""A flat tree shared out among layers, so that a small change of the tree changes small layers.

Every path but directories is in exactly one layer; nothing hides anything, so the tree is that of the flat image. What
is chosen depends on the tree and on who owns its files, never on earlier builds. Files keep together by package,
without its version, else by directory, large files apart from small ones; what is large gets a layer of its own, the
rest goes to layers by a hash of its name. What people edit is small: its layers hold nothing that costs much. How many
layers there are depends on sizes through powers of two alone, so that it seldom changes.

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
_BULKY_FILE = 256 << 10
"""From so many bytes on a file shares its layer with its like."""
_HEAD = 512
_ALONE_SHARE = 4
_LOOSE_WEIGHT = 4


class _Unit(NamedTuple):
    """Files that stay together: those of a package, of a directory (bulky ones or the others), or one large file."""

    owned: bool
    name: str
    bulky: bool = False


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
    sizes: dict[_Unit, int] = {}
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
            unit = _Unit(False, f"/{path.rpartition('/')[0]}", entry.size >= _BULKY_FILE)
            units[path] = unit
            sizes[unit] = sizes.get(unit, 0) + entry.size + _HEAD
    split = {unit: _power(size // PART) for unit, size in sizes.items() if size >= 2 * PART}
    for path, entry, _, link in everything if split else ():
        if link is None and entry.kind != DIRECTORY:
            parts = split.get(units[path])
            if parts is not None:
                unit = units[path]
                units[path] = unit._replace(name=f"{unit.name} ({_spread(path, parts) + 1} of {parts})")
        elif link is not None:
            units[path] = units[link]
    return units


def _places(sizes: Mapping[_Unit, int], most: int) -> dict[_Unit, tuple[int, str]]:
    """The layer of each unit: its place from the bottom up, what seldom changes first, and what it is called."""
    large = sorted((unit for unit in sizes if sizes[unit] >= PART), key=lambda unit: (-_power(sizes[unit]), unit))
    alone = frozenset(large[: most // _ALONE_SHARE])
    left = [unit for unit in sizes if unit not in alone]
    of_packages = sum(sizes[unit] for unit in left if unit.owned)
    of_bulky = sum(sizes[unit] for unit in left if unit.bulky)
    of_others = sum(sizes[unit] for unit in left) - of_packages - of_bulky
    if of_bulky < PART:
        of_bulky, of_others = 0, of_bulky + of_others
    owned, bulky, others = _shares(of_packages, of_bulky, of_others, most - most // _ALONE_SHARE)
    places: dict[_Unit, tuple[int, str]] = {}
    for unit in sizes:
        if unit in alone:
            places[unit] = (0 if unit.owned else 2, unit.name)
        elif unit.owned or owned + bulky + others <= 1:
            count = max(owned, 1)
            places[unit] = (1, f"packages {_spread(unit.name, count) + 1:02} of {count:02}")
        elif unit.bulky and bulky:
            places[unit] = (3, f"large files {_spread(unit.name, bulky) + 1:02} of {bulky:02}")
        else:
            places[unit] = (4, f"files {_spread(unit.name, others) + 1:02} of {others:02}")
    return places


def _shares(owned: int, bulky: int, others: int, most: int) -> tuple[int, int, int]:
    """How many layers packages get, how many large files, and how many the others, of `most`.

    Files are changed more often than packages, and small ones more often than large ones.
    """
    wanted = [_power(size // PART) if size else 0 for size in (owned, bulky, others)]
    if sum(wanted) <= most:
        return wanted[0], wanted[1], wanted[2]
    if most < sum(map(bool, wanted)):
        return 1, 0, 0
    for_others = _share(wanted[2], wanted[:2], most, at_least=most // 2)
    for_bulky = _share(wanted[1], wanted[:1], most - for_others)
    return min(wanted[0], most - for_others - for_bulky), for_bulky, for_others


def _share(wanted: int, rest: Sequence[int], most: int, at_least: int = 1) -> int:
    """How many of `most` layers something gets that changes more often than the rest, of which each needs one."""
    weight = wanted * _LOOSE_WEIGHT
    share = max(at_least, 1, most * weight // max(1, weight + sum(rest)))
    return min(wanted, share, most - sum(map(bool, rest)))


def _power(number: int) -> int:
    """The least power of two that is not less than `number`, at least 1."""
    return 1 << max(number - 1, 0).bit_length()


def _spread(name: str, count: int) -> int:
    """A number below `count` that depends on the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count
