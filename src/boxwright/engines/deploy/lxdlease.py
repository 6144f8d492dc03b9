"""A lock over all members of a cluster: who creates the next name of a row has it.

Names are unique in the cluster's database, so of several only one creates ``PREFIX7``. The holder changes its object
every few seconds; where that stays away, the next name is free for who asks. The highest name is never removed, also
when it is given back: so the numbers only go up, and who comes late with a lower one sees it. The objects are profiles,
since those need nothing else, and hold no configuration of instances.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.errors import BoxwrightError

LEASE_SECONDS = 12.0
"""How long a holder may be silent."""
_BEAT_SECONDS = 3.0
_LOOK_SECONDS = 0.3
_NOTHING = (0, "", 0.0)
_FREE, _BEAT = "user.boxwright.free", "user.boxwright.beat"


class Lease:
    """The lock of one stack. It is kept between attempts: how long a holder is silent is measured here."""

    def __init__(self, client: LxdClient, stack: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._client = client.within("default")
        self._prefix = f"boxwright-lock-{stack}."
        self._seconds = seconds
        self._seen = _NOTHING

    @contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Held in the block, waited for `patience` seconds. Raises BoxwrightError `deploy.busy`."""
        until = time.monotonic() + patience
        while not (number := self._take()):
            if time.monotonic() >= until:
                message = "the stack is being changed by a process on another member"
                raise BoxwrightError("deploy.busy", message, hint="wait until that one has ended")
            time.sleep(_LOOK_SECONDS)
        ended = threading.Event()
        beating = threading.Thread(target=self._go_on, args=(number, ended), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            self._write(number, {_FREE: "true"})

    def remove(self) -> None:
        """Of a stack that is no more."""
        for number in self._numbers():
            self._delete(number)

    def _take(self) -> int:
        """The number of the lock, 0 where somebody else has it."""
        began = time.monotonic()
        try:
            numbers = self._numbers()
        except LxdError:
            self._seen = _NOTHING
            raise
        if time.monotonic() - began > _BEAT_SECONDS:
            self._seen = _NOTHING  # the holder could write nothing meanwhile either: its silence counts anew
        last = max(numbers, default=0)
        if last and not self._is_free(last, numbers[last]):
            return 0
        number = last + 1
        config = {_BEAT: secrets.token_hex(8)}
        try:
            self._client.run("POST", "/profiles", {"name": f"{self._prefix}{number}", "config": config})
        except LxdError:
            if number in self._numbers():
                return 0  # somebody else was first
            raise
        now = self._numbers()
        if max(now, default=0) != number:
            self._delete(number)
            return 0
        for lower in now:
            if lower < number:
                self._delete(lower)
        return number

    def _is_free(self, number: int, config: dict[str, str]) -> bool:
        beat = config.get(_BEAT, "")
        if self._seen[:2] != (number, beat):
            self._seen = (number, beat, time.monotonic())
        return config.get(_FREE) == "true" or time.monotonic() - self._seen[2] > self._seconds

    def _numbers(self) -> dict[int, dict[str, str]]:
        found = self._client.get("/profiles", recursion="1")
        rest = {it["name"].removeprefix(self._prefix): it for it in found if it["name"].startswith(self._prefix)}
        return {int(text): dict(it.get("config") or {}) for text, it in rest.items() if text.isdecimal()}

    def _go_on(self, number: int, ended: threading.Event) -> None:
        while not ended.wait(_BEAT_SECONDS):
            self._write(number, {_BEAT: secrets.token_hex(8)})

    def _write(self, number: int, config: dict[str, str]) -> None:
        """Where the cluster has no quorum now, or somebody took the lock over, there is nothing to be done."""
        with suppress(LxdError):
            self._client.run("PUT", f"/profiles/{self._prefix}{number}", {"config": config, "description": ""})

    def _delete(self, number: int) -> None:
        with suppress(LxdError):
            self._client.run("DELETE", f"/profiles/{self._prefix}{number}")
