"""Room for actions: so many at once on this machine, so many elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAKE_SECONDS = 0.5
HERE, ELSEWHERE = "here", "elsewhere"


class Slots:
    """Hands out slots; what may be done elsewhere is, as long as there is room."""

    def __init__(self, here: int, elsewhere: int) -> None:
        self._free = {HERE: here, ELSEWHERE: elsewhere}
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, places: tuple[str, ...], cancelled: Callable[[], bool]) -> Iterator[str]:
        """Hold a slot in the first of `places` that has one. Raises KeyboardInterrupt when cancelled while waiting."""
        place = self._take(places, cancelled)
        try:
            yield place
        finally:
            with self._changed:
                self._free[place] += 1
                self._changed.notify_all()

    def _take(self, places: tuple[str, ...], cancelled: Callable[[], bool]) -> str:
        with self._changed:
            while True:
                for place in places:
                    if self._free[place] > 0:
                        self._free[place] -= 1
                        return place
                if cancelled():
                    raise KeyboardInterrupt
                self._changed.wait(WAKE_SECONDS)
