"""How an image is shared out among layers: as it was asked for, and by who owns its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from boxwright.app.owners import installed_packages
from boxwright.errors import UsageError
from boxwright.images.choice import DEFAULT_LAYERS, MOST_LAYERS, chosen_layers
from boxwright.images.layer import Layer, flat
from boxwright.images.members import members
from boxwright.model.image import Image, Snapshot
from boxwright.store.provenance import Provenance
from boxwright.store.store import Store

FLAT, AUTO, INSTRUCTIONS = "flat", "auto", "instructions"


class Layering(NamedTuple):
    """Which layers an image gets: one, at most `most` by what changes together, or one for each instruction."""

    kind: str
    most: int = 1


def parse_layering(text: str, *, default: str = FLAT) -> Layering:
    """``flat``, ``auto``, ``auto:N``, ``instructions``; nothing is `default`. Raises UsageError `usage.layers`."""
    kind, colon, number = (text or default).partition(":")
    if kind in (FLAT, INSTRUCTIONS) and not colon:
        return Layering(kind)
    if kind == AUTO and not colon:
        return Layering(AUTO, DEFAULT_LAYERS)
    if kind == AUTO and number.isdecimal() and 1 <= int(number) <= MOST_LAYERS:
        return Layering(AUTO, int(number)) if int(number) > 1 else Layering(FLAT)
    hint = f"flat, auto, auto:N with N from 1 to {MOST_LAYERS}, or instructions"
    raise UsageError("usage.layers", f"--layers {text}: no such choice of layers", hint=hint)


def shared_out(image: Image, store: Store, layering: Layering) -> tuple[Layer, ...]:
    """The layers of an image: one, or chosen by package, directory and size."""
    if layering.kind != AUTO:
        return flat(image, store)
    return chosen_layers(members(store, image.snapshot), _owner(store, image.snapshot), layering.most)


def _owner(store: Store, snapshot: Snapshot) -> Callable[[str], str]:
    """The package of a path without its version, so that a new version goes where the old one was."""
    owners: dict[str, str] = {}
    for package in installed_packages(store, snapshot):
        owners.update(dict.fromkeys(package.paths, package.name))
    provenance = Provenance(store)
    for layer in reversed(snapshot.layers):
        record = provenance.composition(layer)
        for number, paths in (record["paths"] if record else {}).items():
            if record and int(number) >= 0:
                item = record["packages"][int(number)]
                about = item["about"]
                name = about["package"] if about else item["name"].removeprefix("debian/").partition("=")[0]
                owners.update(dict.fromkeys(paths, name))
    return lambda path: owners.get(path, "")
