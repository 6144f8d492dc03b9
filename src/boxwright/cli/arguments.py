"""Arguments that several subcommands take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from boxwright.errors import UsageError


def pair(item: str, option: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise UsageError("usage.pair", f"{option} {item}: NAME=VALUE is expected")
    return name, value


def build_args(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """``--build-arg``: a name alone takes its value from the environment, where it is there."""
    values = (item.partition("=") for item in given)
    return {
        name: value if equals else environment[name] for name, equals, value in values if equals or name in environment
    }


def named(given: Sequence[str]) -> dict[str, str]:
    """``--build-context NAME=CONTEXT``, by the names as a recipe's are compared with them."""
    if not given:
        return {}
    from boxwright.frontends.recipe.options import context_name

    pairs = (pair(item, "--build-context") for item in given)
    return {context_name(name): value for name, value in pairs}


def duration(text: str, option: str) -> int:
    """A time such as ``30m``, ``24h`` or ``7d`` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in units:
        raise UsageError("usage.time", f"{option} {text}: a time is written like 30m, 24h or 7d")
    return int(number) * units[unit]


def whole(option: str, least: int, most: int) -> Callable[[str], int]:
    """The type of an option, for argparse: a whole number that is neither too small nor too large."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or not least <= int(text) <= most:
            raise UsageError("usage.number", f"{option} {text}: a whole number from {least} to {most} is expected")
        return int(text)

    return parse


def seconds(option: str) -> Callable[[str], float]:
    """The type of an option, for argparse: a number of seconds above 0."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and found > 0):
            raise UsageError("usage.time", f"{option} {text}: a number of seconds above 0 is expected")
        return found

    return parse
