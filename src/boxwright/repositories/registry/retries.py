"""Trying again: what may pass by itself, and how long to wait."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeVar

from boxwright.errors import BoxwrightError
from boxwright.repositories.registry.failures import RegistryError

_T = TypeVar("_T")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST = 60.0
_STEP = 0.2


class Patience(NamedTuple):
    """How often something is tried again, and the seconds before the first time; each next one waits twice as long."""

    retries: int = 3
    delay: float = 1.0


class PassingError(Exception):
    """An answer that may be another one next time. `error` is what the user sees when it isn't."""

    def __init__(self, error: RegistryError, wait: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


def is_passing(status: int) -> bool:
    """Whether a status may pass by itself (RFC 9110, 15; RFC 6585, 4)."""
    return status in _PASSING


def patiently(
    patience: Patience,
    work: Callable[[], _T],
    failed: Callable[[Exception], RegistryError],
    cancelled: Callable[[], bool],
) -> _T:
    """Do `work`, again where the network or the server fails; `failed` makes the error of what the network did."""
    for attempt in range(patience.retries + 1):
        try:
            return work()
        except PassingError as error:
            last, wait = error.error, error.wait
        except (OSError, http.client.HTTPException) as error:
            last, wait = failed(error), 0.0
        if attempt == patience.retries or last.code == "registry.no-space":
            raise last
        pause(max(wait, patience.delay * 2**attempt * random.uniform(0.75, 1.25)), cancelled)  # noqa: S311 - no secret
    raise AssertionError("unreachable")


def pause(seconds: float, cancelled: Callable[[], bool]) -> None:
    """Wait, but not when cancelled."""
    end = time.monotonic() + min(seconds, _LONGEST)
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise BoxwrightError("build.cancelled", "cancelled")
        time.sleep(min(left, _STEP))


def wait_of(value: str) -> float:
    """The seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); 0 where it says nothing."""
    try:
        if value.strip().isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
