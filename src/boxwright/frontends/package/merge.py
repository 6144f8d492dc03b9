"""How one definition changes another (docs/packages.md, "Merge rules").

Patches are added, flags are changed, mappings are replaced key by key, everything else is replaced. A key without a
value takes away what was there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from collections.abc import Mapping as Mappings

from boxwright.errors import DefinitionError
from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value, is_nothing
from boxwright.frontends.package.problem import wrong

BY_KEY = frozenset({"phases", "environment", "files", "split", "owners", "users", "versions", "architectures"})
"""Mappings whose keys are replaced one by one."""

URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def alone(document: Mapping) -> Mapping:
    """A definition that changes no other. Raises `package.no-reason` where it takes a patch away."""
    return merge(Mapping({}, document.place, {}), document)


def merge(below: Mapping, above: Mapping) -> Mapping:
    """`below` as `above` changes it. Raises `package.no-reason` where a patch is taken away that is not there."""
    items = dict(below.items)
    keys = dict(below.keys)
    for key, value in above.items.items():
        keys[key] = above.keys[key]
        old = items.get(key)
        if is_nothing(value):
            items.pop(key, None)
        elif key == "use" and isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = _use(old, value)
        elif key == "patches" and isinstance(value, Mapping):
            items[key] = _patches(old if isinstance(old, Mapping) else Mapping({}, value.place, {}), value)
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
    there = {os.path.basename(key) for key in below.items}
    gone = {os.path.basename(key) for key, value in above.items.items() if is_nothing(value)}
    for key, value in above.items.items():
        if is_nothing(value) and os.path.basename(key) not in there:
            raise no_reason(key, above)
    items = {key: value for key, value in below.items.items() if os.path.basename(key) not in gone}
    items.update({key: value for key, value in above.items.items() if not is_nothing(value)})
    return Mapping(items, above.place, {**below.keys, **above.keys})


def no_reason(key: str, patches: Mapping) -> DefinitionError:
    """A patch without a value that takes nothing away."""
    hint = "a patch has its reason as its value; one without a value takes away the base's patch of that file name"
    place = patches.keys.get(key, patches.place)
    return wrong("no-reason", f"the patch {os.path.basename(key)} has no reason", place.span, hint=hint)


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


def anchored(document: Mapping, directory: str) -> Mapping:
    """A definition with its paths made absolute: of a `base`, of packages it names, patches, files and `local` sources.

    Only where the schema has them: other keys may have any name.
    """
    return _anchored(document, directory, _DEFINITION)


Anchor = Callable[[Value, str], Value]


def _path(value: Value, directory: str) -> Value:
    if not isinstance(value, Scalar) or not value.text or is_nothing(value):
        return value
    return value._replace(text=os.path.normpath(os.path.join(directory, value.text)))


def _reference(value: Value, directory: str) -> Value:
    """The name of a package, which is a path where it begins like one."""
    return _path(value, directory) if isinstance(value, Scalar) and value.text.startswith((".", "/")) else value


def _each(anchor: Anchor) -> Anchor:
    """The same for every item of a list, or value of a mapping."""

    def every(value: Value, directory: str) -> Value:
        if isinstance(value, Sequence):
            return value._replace(items=tuple(anchor(item, directory) for item in value.items))
        if isinstance(value, Mapping):
            return value._replace(items={key: anchor(item, directory) for key, item in value.items.items()})
        return value

    return every


def _keyed(value: Value, directory: str) -> Value:
    """A mapping whose keys are paths or URLs."""
    if not isinstance(value, Mapping):
        return value
    names = {name: name if URL.match(name) else os.path.join(directory, name) for name in value.items}
    items = {names[name]: item for name, item in value.items.items()}
    return Mapping(items, value.place, {names[name]: place for name, place in value.keys.items()})


def _parts(anchors: Mappings[str, Anchor]) -> Anchor:
    """The same for what stands below some keys of a mapping."""
    return lambda value, directory: _anchored(value, directory, anchors) if isinstance(value, Mapping) else value


def _anchored(value: Mapping, directory: str, anchors: Mappings[str, Anchor]) -> Mapping:
    items = {key: anchors[key](item, directory) if key in anchors else item for key, item in value.items.items()}
    return value._replace(items=items)


_NEEDS: dict[str, Anchor] = {"depends": _each(_reference), "build-depends": _each(_reference)}
_EFFECT: dict[str, Anchor] = {**_NEEDS, "patches": _keyed, "files": _each(_path)}
_CHANGES: dict[str, Anchor] = {
    **_EFFECT,
    "sources": _each(_parts({"local": _path})),
    "use": _parts({"flags": _each(_parts({"with": _parts(_EFFECT), "without": _parts(_EFFECT)}))}),
    "test": _parts({"depends": _each(_reference)}),
}
_DEFINITION: dict[str, Anchor] = {
    **_CHANGES,
    "base": _reference,
    "versions": _each(_parts(_CHANGES)),
    "architectures": _each(_parts(_CHANGES)),
}
