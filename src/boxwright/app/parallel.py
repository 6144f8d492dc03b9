"""Several transfers at once, which end together: when one fails, and when the user interrupts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from boxwright.errors import BoxwrightError

_T = TypeVar("_T")
CANCELLED = "build.cancelled"


class Stoppable(Protocol):
    """What the transfers run on."""

    def stop(self) -> None:
        """Make all that is under way fail soon with the code `CANCELLED`."""
        ...

    def resume(self) -> None:
        """Take up work again."""
        ...


def run_all(tasks: Sequence[Callable[[], _T]], at_once: int, what: Stoppable) -> list[_T]:
    """Run all tasks, `at_once` in threads; gives their results in order, or raises the failure that came first."""
    failures: list[BaseException] = []

    def one(task: Callable[[], _T]) -> _T:
        if failures:
            raise BoxwrightError(CANCELLED, "cancelled")
        try:
            return task()
        except BaseException as error:
            if not failures:
                failures.append(error)
                what.stop()
            raise

    with ThreadPoolExecutor(at_once, "transfer") as executor:
        running: list[Future[_T]] = []
        try:
            running += [executor.submit(one, task) for task in tasks]
            for future in running:
                future.exception()
        except BaseException as error:
            failures.insert(0, error)
            what.stop()
            raise
    if failures:
        what.resume()
        raise failures[0]
    return [future.result() for future in running]
