"""The one thing that a binary repository asks of where it lies: a space of immutable objects with names.

What a repository means by its objects is the same in every place; a place knows nothing of it. Bundles lie in places
too (`Shelf`): what says which there are is the only thing that is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from boxwright.errors import FetchError

AT_ONCE = 8
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@~-]*(/[A-Za-z0-9][A-Za-z0-9._+@~-]*)*\Z")


class Upload(NamedTuple):
    """An object to put: its bytes, or the file at `path` that holds them.

    `needs` is the content that it names, by digest and size: it is there already, and kept as long as this object is.
    """

    name: str
    data: bytes = b""
    path: str = ""
    needs: tuple[tuple[str, int], ...] = ()


class Listed(NamedTuple):
    """An object as a listing shows it: `size` in bytes, `time` in seconds since 1970 when it was put."""

    name: str
    size: int
    time: int


class MissingError(FetchError):
    """There is no such object."""

    def __init__(self, where: str, name: str) -> None:
        super().__init__("repository.missing", f"{where} holds no {name}")


class UnreadableError(FetchError):
    """The place has such an object and can't give it, however often it is asked; others it can."""


class Source(Protocol):
    """A place that can be read. Safe for threads.

    `where` names it to a person. `distant` says that each request crosses a network, so that few are made. `loose`: of
    two who put the same name at once the last may stay, and both may hold that they were first; elsewhere one wins.
    Whatever goes wrong is a FetchError ``repository.*``.
    """

    where: str
    distant: bool
    loose: bool

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes from `start` on, at most `size`, in pieces. Raises MissingError before the first one.

        A connection that breaks is made again where it broke. The bytes are what the place says, which may be wrong.
        """
        ...

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Place(Source, Protocol):
    """A place that can be written too."""

    def put(self, uploads: Sequence[Upload]) -> list[str]:
        """Put objects that are not there yet; returns the names of those that were there (and stay as they are).

        Each appears whole or not at all, whenever either side is killed, and of several writers one wins. In which
        order they appear is not said: what must come last is put last, with a call of its own.
        """
        ...

    def names(self, prefix: str) -> Iterator[Listed]:
        """Every object whose name begins with `prefix` (empty, or with a slash at its end), none half put."""
        ...

    def delete(self, names: Collection[str]) -> None:
        """Remove objects; what is not there is no error."""
        ...

    def sweep(self, before: int) -> int:
        """Remove what was half put before then (seconds since 1970); returns how many."""
        ...


class Shelf(Place, Protocol):
    """A place where objects can be replaced, too. A registry is none: there the last of two writers stays."""

    def replace(self, upload: Upload) -> None:
        """Put an object whether or not one of its name is there; a reader sees all of the old or of the new one."""
        ...


def checked(name: str) -> str:
    """`name`, which can be an object's in any place. Raises FetchError `repository.name`."""
    if not _NAME.match(name) or len(name) > 200:
        raise FetchError("repository.name", f"{name!r} can't be the name of an object")
    return name


def whole(source: Source, name: str, most: int) -> bytes:
    """All of an object of at most `most` bytes. Raises FetchError `repository.too-large`."""
    pieces = []
    size = 0
    for piece in source.read(name):
        size += len(piece)
        if size > most:
            raise FetchError("repository.too-large", f"{source.where}: {name} is longer than {most} bytes, its limit")
        pieces.append(piece)
    return b"".join(pieces)


def at_once(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """`function` of each item, several at a time; raises the first failure."""
    if len(items) < 2:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
