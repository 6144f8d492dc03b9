"""From a document's text to the schema's types: whatever is wrong is an error at its line and column."""

from __future__ import annotations

import re
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from boxwright.errors import DefinitionError
from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence, Value, is_nothing, plain
from boxwright.frontends.package.problem import nearest, wrong

T = TypeVar("T", bound=Struct)
BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


def convert(value: Mapping, kind: type[T]) -> T:
    """`value` as a struct. Raises `package.unknown-key`, `package.type` or `package.value`, each with its place."""
    return _struct(value, kind)


@cache
def _required(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    """Names and keys of the fields that must be given."""
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(kind) if field.required)


@cache
def _fields(kind: type[Struct]) -> dict[str, tuple[str, Any]]:
    """For each key the name of the struct's field, and its type."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.encode_name: (field.name, hints[field.name]) for field in msgspec.structs.fields(kind)}


def known_keys(kind: type[Struct]) -> tuple[str, ...]:
    """The keys that a struct takes."""
    return tuple(_fields(kind))


def _struct(value: Value, kind: type[T]) -> T:
    if not isinstance(value, Mapping):
        raise _expected(f"a mapping ({', '.join(_fields(kind))})", value)
    known = _fields(kind)
    given: dict[str, Any] = {}
    for key, item in value.items.items():
        if key not in known:
            place = value.keys.get(key, value.place)
            raise wrong("unknown-key", f"there is no key {key!r} here", place.span, hint=nearest(key, known))
        name, expected = known[key]
        if not is_nothing(item):
            given[name] = _value(item, expected)
    missing = [key for name, key in _required(kind) if name not in given]
    if missing:
        raise wrong("missing-key", f"the key {missing[0]!r} is missing here", value.place.span)
    return kind(**given)


def _value(value: Value, expected: Any) -> Any:  # noqa: ANN401 - what the annotation says
    origin, members = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return _constrained(_value(value, members[0]), [item for item in members if isinstance(item, Meta)], value)
    if origin in (Union, UnionType):
        return _union(value, members)
    if origin is Literal:
        return _literal(value, members)
    if origin is tuple:
        return _list(value, members[0])
    if origin is dict:
        return _dict(value, *members)
    return _plain(value, expected)


def _literal(value: Value, members: tuple[str, ...]) -> str:
    text = _text(value)
    if text not in members:
        raise wrong("value", f"{text!r} is not known here", value.place.span, hint=nearest(text, members))
    return text


def _list(value: Value, item_type: Any) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, Sequence):
        raise _expected("a list", value)
    return tuple(_value(item, item_type) for item in value.items)


def _plain(value: Value, expected: Any) -> Any:  # noqa: ANN401
    if expected is Any:
        return plain(value)
    if isinstance(expected, type) and issubclass(expected, Struct):
        return _struct(value, expected)
    return _scalar(value, expected)


def _dict(value: Value, key_type: Any, item_type: Any) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise _expected("a mapping", value)
    result: dict[str, Any] = {}
    for key, item in value.items.items():
        name = _value(Scalar(key, value.keys.get(key, value.place)), key_type)
        if not (is_nothing(item) and item_type is not str):
            result[name] = _value(item, item_type)
        elif isinstance(item_type, type) and issubclass(item_type, Struct):
            result[name] = _struct(Mapping({}, item.place, {}), item_type)
    return result


def _union(value: Value, members: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """The member of the value's shape: a schema has at most one for mappings, lists and text each."""
    shapes = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}
    for member in members:
        if member is type(None):
            continue
        plain = get_args(member)[0] if get_origin(member) is Annotated else member
        if get_origin(plain) is tuple:
            shape: type = Sequence
        elif get_origin(plain) is dict or (isinstance(plain, type) and issubclass(plain, Struct)):
            shape = Mapping
        else:
            shape = Scalar
        if isinstance(value, shape):
            return _value(value, member)
    raise wrong("type", f"{shapes[type(value)]} is not what is expected here", value.place.span)


def _text(value: Value) -> str:
    if not isinstance(value, Scalar):
        raise _expected("text", value)
    return value.text


def _scalar(value: Value, expected: type) -> str | int | bool:
    text = _text(value)
    if expected is str:
        return text
    if expected is bool:
        if text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        raise wrong("type", f"{text!r} is neither true nor false", value.place.span)
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    raise wrong("type", f"{text!r} is not a whole number", value.place.span)


def _constrained(value: Any, metas: list[Meta], where: Value) -> Any:  # noqa: ANN401
    for meta in metas:
        if meta.pattern and not re.search(_whole(meta.pattern), value):
            expected = f": expected are {meta.description}" if meta.description else f" (pattern {meta.pattern})"
            raise wrong("value", f"{value!r} is not possible here{expected}", where.place.span)
        if (meta.ge is not None and value < meta.ge) or (meta.le is not None and value > meta.le):
            raise wrong("value", f"{value} is not between {meta.ge} and {meta.le}", where.place.span)
    return value


def _whole(pattern: str) -> str:
    """JSON Schema's ``$`` is the end of the text, Python's also stands before a newline there."""
    return f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern


def _expected(what: str, value: Value) -> DefinitionError:
    found = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}[type(value)]
    return wrong("type", f"{what} is expected here, not {found}", value.place.span)


def place_of(value: Value, *path: str | int) -> Place:
    """Where the part of a document at `path` stands; the nearest part above it where there is none."""
    for step in path:
        if isinstance(value, Mapping):
            below = value.items.get(str(step))
        else:
            items = value.items if isinstance(value, Sequence) else ()
            below = items[step] if isinstance(step, int) and step < len(items) else None
        if below is None:
            break
        value = below
    return value.place


def part_of(value: Value, *path: str) -> Value | None:
    """The part of a document below these keys; None where there is none."""
    for step in path:
        if not isinstance(value, Mapping) or step not in value.items:
            return None
        value = value.items[step]
    return value


def key_place(value: Value, *path: str) -> Place:
    """Where the last key of `path` stands."""
    for step in path[:-1]:
        if not isinstance(value, Mapping) or step not in value.items:
            return value.place
        value = value.items[step]
    return value.keys.get(path[-1], value.place) if isinstance(value, Mapping) else value.place
