"""How one definition changes another (docs/packages.md, "Merge rules").

Patches are added, flags are changed, mappings are replaced key by key, everything else is replaced. A key without a
value takes away what was there.
"""

from __future__ import annotations

import os
import re

from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value, is_nothing

BY_KEY = frozenset({"phases", "environment", "files", "split", "owners", "users", "versions", "architectures"})
"""Mappings whose keys are replaced one by one."""

URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def merge(below: Mapping, above: Mapping) -> Mapping:
    """`below` as `above` changes it."""
    items = dict(below.items)
    keys = dict(below.keys)
    for key, value in above.items.items():
        keys[key] = above.keys[key]
        old = items.get(key)
        if is_nothing(value):
            items.pop(key, None)
        elif key == "use" and isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = _use(old, value)
        elif key == "patches" and isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = _patches(old, value)
        elif key in BY_KEY and isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = _keys(old, value)
        else:
            items[key] = value
    return Mapping(items, above.place, keys)


def _keys(below: Mapping, above: Mapping) -> Mapping:
    items = {**below.items, **above.items}
    kept = {key: value for key, value in items.items() if not (key in above.items and is_nothing(value))}
    return Mapping(kept, above.place, {**below.keys, **above.keys})


def _patches(below: Mapping, above: Mapping) -> Mapping:
    """A patch without a value takes away the one of that file name."""
    gone = {os.path.basename(key) for key, value in above.items.items() if is_nothing(value)}
    items = {key: value for key, value in below.items.items() if os.path.basename(key) not in gone}
    items.update({key: value for key, value in above.items.items() if not is_nothing(value)})
    return Mapping(items, above.place, {**below.keys, **above.keys})


def _use(below: Mapping, above: Mapping) -> Mapping:
    """What is switched on above is no longer switched off below, and the other way round."""
    items = dict(below.items)
    for key, value in above.items.items():
        if key in ("set", "flags"):
            old = items.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            items[key] = _keys(old, value) if both else value  # type: ignore[arg-type]
        elif key not in ("with", "without"):
            items[key] = value
    for key, other in (("with", "without"), ("without", "with")):
        changed = _texts(above.items.get(other))
        own = above.items.get(key)
        kept = [item for item in _list(below.items.get(key)) if not (isinstance(item, Scalar) and item.text in changed)]
        added = [item for item in _list(own) if not (isinstance(item, Scalar) and item.text in _texts_of(kept))]
        if own is not None and not isinstance(own, Sequence):
            items[key] = own
        elif kept or added:
            items[key] = Sequence((*kept, *added), (own or below.items.get(key) or above).place)
        else:
            items.pop(key, None)
    return Mapping(items, above.place, {**below.keys, **above.keys})


def _list(value: Value | None) -> tuple[Value, ...]:
    return value.items if isinstance(value, Sequence) else ()


def _texts_of(values: list[Value]) -> set[str]:
    return {item.text for item in values if isinstance(item, Scalar)}


def _texts(value: Value | None) -> set[str]:
    return _texts_of(list(_list(value)))


def anchored(value: Value, directory: str, key: str = "") -> Value:
    """The same with local paths made absolute: of patches, of files, of `local` sources and of a `base` in a path."""
    if isinstance(value, Sequence):
        return Sequence(tuple(anchored(item, directory) for item in value.items), value.place)
    if not isinstance(value, Mapping):
        local = key == "local" or (key == "base" and value.text.startswith("."))
        return value._replace(text=os.path.normpath(os.path.join(directory, value.text))) if local else value
    if key == "patches":
        names = {name: name if URL.match(name) else os.path.join(directory, name) for name in value.items}
        return Mapping(
            {names[name]: item for name, item in value.items.items()},
            value.place,
            {names[name]: place for name, place in value.keys.items()},
        )
    if key == "files":
        items: dict[str, Value] = {
            name: item._replace(text=os.path.join(directory, item.text))
            if isinstance(item, Scalar) and item.text
            else item
            for name, item in value.items.items()
        }
        return Mapping(items, value.place, value.keys)
    return Mapping(
        {name: anchored(item, directory, name) for name, item in value.items.items()}, value.place, value.keys
    )
