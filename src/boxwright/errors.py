"""The one root of this program's errors: what happened, where, what to do next, and the exit status.

Exit statuses (docs/cli.md): 1 a build or a command failed, 2 wrong use or a wrong definition, 3 this machine lacks
something, 4 the store can't be used, 5 something outside could not be fetched, 130 interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxwright.model.span import Span


class BoxwrightError(Exception):
    """`code` is stable and what tests look at; `hint` says what to do next."""

    exit_status = 1

    def __init__(self, code: str, message: str, *, hint: str = "", where: Span | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.where = where


class UsageError(BoxwrightError):
    """The command line is wrong."""

    exit_status = 2


class DefinitionError(BoxwrightError):
    """What the user wrote is wrong; `where` says in which place."""

    exit_status = 2


class MachineError(BoxwrightError):
    """Something that is needed is not on this machine."""

    exit_status = 3


class StoreError(BoxwrightError):
    """The store can't be read, can't be written, or holds something that is not what it should be."""

    exit_status = 4


class FetchError(BoxwrightError):
    """Something outside could not be fetched or is not what it should be."""

    exit_status = 5


class StepError(BoxwrightError):
    """A step failed. `status` is the exit status of its command, `tail` the end of its output."""

    def __init__(self, code: str, message: str, *, status: int, tail: str = "", where: Span | None = None) -> None:
        super().__init__(code, message, where=where)
        self.status = status
        self.tail = tail
