"""How the values of a Compose file are read, and what is said of those that can't be carried over."""

from __future__ import annotations

import re
from collections.abc import Collection
from collections.abc import Mapping as Map
from typing import TypeVar

from boxwright.frontends.package.convert import BOOLEANS
from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence, Value, is_nothing
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.stack.composekeys import Keys
from boxwright.frontends.stack.problem import wrong

T = TypeVar("T", Mapping, Sequence, Scalar)

MOST = 1000
"""So many of anything are the most."""
_SHAPES: dict[type, str] = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}
_OWN = "x-"
_UNIT_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_UNITS = "|".join(_UNIT_SECONDS)
_DURATION = re.compile(rf"(?:\d{{1,9}}(?:\.\d{{0,9}})?(?:{_UNITS}))+", re.ASCII)
_PART = re.compile(rf"([\d.]+)({_UNITS})", re.ASCII)
_TRUE_BY_DEFAULT = ("enable_ipv4",)
_DRIVERS = ("default", "bridge", "local")
"""What Compose takes for networks, addresses and volumes where nothing is said."""


class Notes:
    """What of a file is not carried over, each with its place."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, place: Place, text: str) -> None:
        """Say something of a place."""
        self.said.append(f"{place.span}: {text}")

    def leave_out(self, place: Place, what: str) -> None:
        """Say that something of Compose's is not carried over."""
        self.note(place, f"{what} is not carried over")

    def check(self, value: Mapping, keys: Keys, what: str) -> None:
        """Name the keys that Compose knows and we leave out. Raises `stack.unknown-key` for others."""
        for key, place in value.keys.items():
            if key in keys.read or key.startswith(_OWN):
                continue
            if key not in keys.left_out:
                hint = nearest(key, keys.read | keys.left_out)
                raise wrong("unknown-key", f"there is no key {key!r} in {what}", place.span, hint=hint)
            if not _is_off(key, value.items[key]):
                self.leave_out(place, f"{key} of {what}")


def _is_off(key: str, value: Value) -> bool:
    """Whether what is left out says only that it is not wanted, or what is so anyway."""
    if key == "driver" and isinstance(value, Scalar) and value.text in _DRIVERS:
        return True
    if not isinstance(value, Scalar) or key in _TRUE_BY_DEFAULT:
        return False
    return is_nothing(value) or BOOLEANS.get(value.text.lower()) is False


def of_type(value: Value, kind: type[T]) -> T:
    """`value`, where it is of this kind. Raises `stack.type`."""
    if not isinstance(value, kind):
        found = "nothing" if is_nothing(value) else _SHAPES[type(value)]
        raise wrong("type", f"{_SHAPES[kind]} is expected here, not {found}", value.place.span)
    return value


def given(value: Mapping, key: str) -> Value | None:
    """The value of a key; None where there is none."""
    found = value.items.get(key)
    return None if found is None or is_nothing(found) else found


def place_in(value: Mapping, key: str) -> Place:
    """Where the value of a key stands; where the mapping does, where there is none."""
    return value.items[key].place if key in value.items else value.place


def mapping(value: Mapping, key: str) -> Mapping:
    """The mapping of a key; an empty one where there is none."""
    found = given(value, key)
    return Mapping({}, value.place, {}) if found is None else of_type(found, Mapping)


def mapping_or_empty(value: Value) -> Mapping:
    """A mapping, which may be left empty."""
    return Mapping({}, value.place, {}) if is_nothing(value) else of_type(value, Mapping)


def items_of(value: Mapping, key: str) -> tuple[Value, ...]:
    """The items of a key's list; none where there is none. Raises `stack.type`."""
    found = given(value, key)
    return () if found is None else of_type(found, Sequence).items


def text_of(value: Mapping, key: str) -> str:
    """The text of a key, empty where there is none."""
    found = given(value, key)
    return "" if found is None else of_type(found, Scalar).text


def texts(value: Mapping, key: str) -> tuple[str, ...]:
    """The texts of a key: one, or a list of them."""
    found = given(value, key)
    if found is None:
        return ()
    if isinstance(found, Scalar):
        return (found.text,)
    return tuple(of_type(it, Scalar).text for it in of_type(found, Sequence).items)


def one_of(value: Mapping, key: str, known: Collection[str], default: str = "") -> str:
    """The text of a key, where it is one of `known`; else `default`. Raises `stack.value`."""
    text = text_of(value, key) or default
    if text and text not in known:
        raise wrong("value", f"{text!r} is no {key}", place_in(value, key).span, hint=nearest(text, known))
    return text


def number(value: Mapping, key: str, default: int) -> int:
    """The whole number of a key. Raises `stack.type`, or `stack.value` where it is too large."""
    text = text_of(value, key)
    if not text:
        return default
    where = value.items[key].place.span
    if not re.fullmatch(r"[0-9]+", text):
        raise wrong("type", f"{text!r} is not a whole number", where)
    if len(text) > len(str(MOST)) or int(text) > MOST:
        raise wrong("value", f"{key} is {MOST} at most", where)
    return int(text)


def flag(value: Mapping, key: str, *, default: bool) -> bool:
    """The boolean of a key."""
    text = text_of(value, key)
    if text and text.lower() not in BOOLEANS:
        raise wrong("type", f"{text!r} is neither true nor false", value.items[key].place.span)
    return BOOLEANS[text.lower()] if text else default


def duration(value: Mapping, key: str, default: float) -> float:
    """The time of a key in seconds, such as ``1m30s``; 0 is the default too. Raises `stack.value`."""
    text = text_of(value, key)
    if text and text != "0" and not _DURATION.fullmatch(text):
        where = value.items[key].place.span
        raise wrong("value", f"{text!r} is no time", where, hint="a number with its unit, such as 30s or 1m30s")
    try:
        found = sum(float(many) * _UNIT_SECONDS[unit] for many, unit in _PART.findall(text))
    except ValueError:  # the parts of 1.5.2s
        found = 0.0
    return found or default


def pairs(value: Mapping, key: str, variables: Map[str, str]) -> dict[str, str | None]:
    """Variables as a mapping or as a list of ``NAME=VALUE``; a name alone takes its value from `variables`, or None."""
    found = given(value, key)
    if found is None:
        return {}
    result: dict[str, str | None] = {}
    if isinstance(found, Mapping):
        for name, item in found.items.items():
            result[name] = variables.get(name) if is_nothing(item) else of_type(item, Scalar).text
            _check_name(name, found.keys[name])
        return result
    for item in of_type(found, Sequence).items:
        name, equals, text = of_type(item, Scalar).text.partition("=")
        result[name] = text if equals else variables.get(name)
        _check_name(name, item.place)
    return result


def _check_name(name: str, place: Place) -> None:
    if not name or "=" in name or "\0" in name:
        raise wrong("value", f"{name!r} can't be a variable's name", place.span)
