"""The journal where numbers can't be taken: every writer adds objects under names that nobody else chooses.

What there is says the place's listing. Each push adds ``journal/0/TIME-RANDOM``. Whoever sees sixteen of a level merges
them into one of the next, named by what it replaces, so that two who merge the same write the same; where they merged
different ones, records are there twice, which does no harm. Nothing is ever overwritten. Who reads takes the highest
levels first and leaves out what they replace, and keeps what was read. What the place can't read any more is replaced
too, by whoever writes next, with all records that there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeGuard

from boxwright.errors import FetchError
from boxwright.repositories.binary.journal import FAN, LEVELS, MOST, Signed, decode_page, encode_page, keep
from boxwright.repositories.binary.place import (
    MissingError,
    Place,
    Source,
    UnreadableError,
    Upload,
    at_once,
    whole,
)

PREFIX = "journal/"
_NAME = re.compile(r"journal/(?P<level>[0-9])/(?P<time>[0-9a-f]{8})-[0-9a-f]+\Z")


class Listing(Source, Protocol):
    """A place that says what it holds in few requests."""

    def listed(self, prefix: str) -> set[str]:
        """The names of the objects below `prefix`."""
        ...


def is_listing(source: Source) -> TypeGuard[Listing]:
    """Whether a place has this kind of journal."""
    return source.loose


class _Page(NamedTuple):
    covers: frozenset[str]
    records: list[Signed]


class LooseJournal:
    """The journal of a repository. What was read is kept in `cache`, since it never changes."""

    def __init__(self, source: Listing, cache: str) -> None:
        self._source = source
        self._cache = cache
        self._pages: dict[str, _Page] = {}
        self._covered: set[str] = set()
        self._read: list[Signed] = []
        self._noted: set[tuple[bytes, frozenset[str]]] = set()

    def records(self) -> Sequence[Signed]:
        """All records; what came since the last call is asked for, and stands behind what was there.

        Raises UnreadableError where the place has lost some of the journal.
        """
        for error in self._refresh().values():
            raise error
        return self._read

    def _refresh(self) -> dict[str, UnreadableError]:
        """Read what came; returns what can't be read."""
        lost: dict[str, UnreadableError] = {}
        there = {name for name in self._source.listed(PREFIX) if _NAME.match(name)}
        for level in reversed(range(LEVELS)):
            new = [name for name in there if _level(name) == level and name not in self._pages]
            wanted = sorted(name for name in new if name not in self._covered)
            for name, page in zip(wanted, at_once(self._page, wanted), strict=True):
                if isinstance(page, UnreadableError):
                    lost[name] = page
                elif page is not None:
                    self._take(name, page)
        return lost

    def _take(self, name: str, page: _Page) -> None:
        self._pages[name] = page
        self._covered |= page.covers
        for record in page.records:
            noted = (record.payload, frozenset(record.signatures))
            if noted not in self._noted:
                self._noted.add(noted)
                self._read.append(record)

    def _page(self, name: str) -> _Page | UnreadableError | None:
        """What an object holds; None where it was merged and removed meanwhile."""
        path = f"{self._cache}/{name}"
        with suppress(OSError, FetchError), open(path, "rb") as file:
            return _Page(*decode_page(file.read(), path))
        try:
            data = whole(self._source, name, MOST)
        except MissingError:
            return None
        except UnreadableError as error:
            return error
        page = _Page(*decode_page(data, f"{self._source.where}: {name}"))
        keep(path, data)
        return page

    def append(self, place: Place, records: Sequence[Signed], everything: Callable[[], Sequence[Signed]]) -> None:
        """Add those that are not there yet. `everything` reads all records by their own names, where some were lost."""
        lost = self._refresh()
        if lost:
            level = max(map(_level, lost)) + 1
            self._replace(place, level, max(map(_time, lost)), sorted(lost), everything())
        known: dict[bytes, set[str]] = {}
        for it in self._read:
            known.setdefault(it.payload, set()).update(it.signatures)
        new = [record for record in records if not set(record.signatures) <= known.get(record.payload, set())]
        if not new:
            return
        name = f"{PREFIX}0/{int(time.time()):08x}-{os.urandom(8).hex()}"
        place.put([Upload(name, encode_page(new))])
        self._take(name, _Page(frozenset(), new))
        self._merge(place)

    def _merge(self, place: Place) -> None:
        """Write the merged objects for which there is enough."""
        for level in range(LEVELS - 1):
            names = sorted(name for name in self._pages if _level(name) == level and name not in self._covered)
            if len(names) < FAN:
                return
            covers = sorted({*names, *(it for name in names for it in self._pages[name].covers)})
            records = list(_once(record for name in names for record in self._pages[name].records))
            self._replace(place, level + 1, max(map(_time, names)), covers, records)

    def _replace(self, place: Place, level: int, when: str, covers: Sequence[str], records: Sequence[Signed]) -> None:
        """Write an object that stands for others."""
        digest = hashlib.sha256("\n".join(covers).encode()).hexdigest()
        merged = f"{PREFIX}{level}/{when}-{digest[:16]}"
        place.put([Upload(merged, encode_page(records, covers))])
        self._take(merged, _Page(frozenset(covers), list(records)))

    def prune(self, place: Place, before: int) -> int:
        """Remove what was merged and put before then (seconds since 1970); returns how many objects."""
        self.records()
        names = [name for name in self._source.listed(PREFIX) if name in self._covered and _NAME.match(name)]
        old = [name for name in names if int(_time(name), 16) < before]
        place.delete(old)
        return len(old)


def _once(records: Iterable[Signed]) -> Iterable[Signed]:
    seen: set[tuple[bytes, frozenset[str]]] = set()
    for record in records:
        noted = (record.payload, frozenset(record.signatures))
        if noted not in seen:
            seen.add(noted)
            yield record


def _level(name: str) -> int:
    return int(name.split("/")[1])


def _time(name: str) -> str:
    return name.rpartition("/")[2].partition("-")[0]
