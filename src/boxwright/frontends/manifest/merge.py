"""How a manifest stands on what it includes (docs/manifests.md, "Merge rules").

Lists are joined, what was included first; mappings are joined key by key; everything else is replaced. A key without a
value takes away what was there.
"""

from __future__ import annotations

from functools import reduce

from boxwright.frontends.package.document import Mapping, Sequence, Value, is_nothing

OWN = frozenset({"include"})
"""Keys that say something of their own file alone."""

WHOLE = frozenset({"command", "entrypoint", "shell", "language", "artifact", "matrix", "test", "healthcheck", "kv"})
"""Keys that are replaced whatever they hold."""


def merge(below: Mapping, above: Mapping) -> Mapping:
    """`below` as `above` changes it."""
    items = {key: value for key, value in below.items.items() if key not in OWN}
    keys = dict(below.keys)
    for key, value in above.items.items():
        keys[key] = above.keys[key]
        old = items.get(key)
        if is_nothing(value):
            items.pop(key, None)
        elif old is None or key in WHOLE:
            items[key] = value
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = _joined(old, value)
        elif isinstance(old, Sequence) and isinstance(value, Sequence):
            items[key] = Sequence((*old.items, *value.items), value.place)
        else:
            items[key] = value
    return Mapping(items, above.place, keys)


def merge_all(documents: list[Mapping]) -> Mapping:
    """Each on top of the one before it."""
    return reduce(merge, documents)


def _joined(below: Mapping, above: Mapping) -> Mapping:
    items: dict[str, Value] = {**below.items, **above.items}
    kept = {key: value for key, value in items.items() if not (key in above.items and is_nothing(value))}
    return Mapping(kept, above.place, {**below.keys, **above.keys})
