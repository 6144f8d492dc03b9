"""The journal: which records there are, in few requests, without an index that anybody changes.

Each push adds one object, ``journal/0/N`` with the next free number N, that holds copies of the records it made with
their signatures. Sixteen objects of a level are merged into one of the next by whoever writes the sixteenth. All are
immutable; whoever reads takes the highest level that there is at each position, so that ten thousand pushes are read
with some thirty requests, once, and later only what is new.

The journal is no authority. What is missing in it is found under its own name or built again; what is wrong in it has
no signature; what it names and gc removed is found missing when it is fetched.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from boxwright.errors import FetchError
from boxwright.repositories.binary.packing import packed, unpacked
from boxwright.repositories.binary.place import MissingError, Place, Source, Upload, whole

FAN = 16
LEVELS = 4
MOST = 256 << 20


class Signed(NamedTuple):
    """A record's bytes with its signatures by the signer's id."""

    payload: bytes
    signatures: Mapping[str, bytes]


class _Line(msgspec.Struct, frozen=True):
    payload: str
    signatures: dict[str, str]


class _Page(msgspec.Struct, frozen=True):
    records: list[_Line]
    covers: list[str]


class Journal:
    """The journal of a repository. What was read is kept in `cache`, since it never changes."""

    def __init__(self, source: Source, cache: str) -> None:
        self._source: Source = source
        self._cache = cache
        self._position = 0
        self._read: list[Signed] = []

    def records(self) -> Sequence[Signed]:
        """All records in the order in which they came; what came since the last call is asked for."""
        while True:
            level = self._next_level()
            if level is None:
                return self._read
            name = _name(level, self._position >> _shift(level))
            self._read.extend(self._objects(name))
            self._position += FAN**level

    def _next_level(self) -> int | None:
        """The highest level that has an object at the position."""
        for level in reversed(range(LEVELS)):
            if self._position % FAN**level:
                continue
            if level == 0 or self._worth_asking(level):
                with suppress(MissingError):
                    self._objects(_name(level, self._position >> _shift(level)))
                    return level
        return None

    def _worth_asking(self, level: int) -> bool:
        """A merged object is asked for only where something follows: a look at the end costs one request."""
        if self._position == 0 or os.path.exists(f"{self._cache}/{_name(level, self._position >> _shift(level))}"):
            return True
        return bool(self._here(_name(0, self._position)))

    def _here(self, name: str) -> bool:
        with suppress(MissingError):
            self._objects(name)
            return True
        return False

    def _objects(self, name: str) -> list[Signed]:
        """What an object holds, from the cache where it was read before. Raises MissingError."""
        path = f"{self._cache}/{name}"
        with suppress(OSError, FetchError), open(path, "rb") as file:
            return decode_page(file.read(), path)[1]
        data = whole(self._source, name, MOST)
        records = decode_page(data, f"{self._source.where}: {name}")[1]
        keep(path, data)
        return records

    def append(self, place: Place, records: Sequence[Signed]) -> None:
        """Add those that are not there yet. It is read where it is written: a cache on the way may be late."""
        source, self._source = self._source, place
        try:
            self._append(place, records)
        finally:
            self._source = source

    def _append(self, place: Place, records: Sequence[Signed]) -> None:
        while True:
            known = {record.payload: record.signatures for record in self.records()}
            new = [record for record in records if not set(record.signatures) <= set(known.get(record.payload, ()))]
            if not new:
                return
            number = self._position
            if not place.put([Upload(_name(0, number), encode_page(new))]):
                break
            # Another writer took the number: it is read, and the next one tried.
        self._read.extend(new)
        self._position += 1
        self._merge(place)

    def _merge(self, place: Place) -> None:
        """Write the merged objects that the last one completes."""
        for level in range(1, LEVELS):
            if self._position % FAN**level:
                return
            number = (self._position >> _shift(level)) - 1
            parts: list[Signed] = []
            for below in range(number * FAN, (number + 1) * FAN):
                name = _name(level - 1, below)
                try:
                    parts.extend(self._objects(name))
                except MissingError:
                    return
            place.put([Upload(_name(level, number), encode_page(parts))])


def _shift(level: int) -> int:
    return 4 * level


def _name(level: int, number: int) -> str:
    return f"journal/{level}/{number}"


def encode_page(records: Sequence[Signed], covers: Sequence[str] = ()) -> bytes:
    """An object of the journal: records, and (in a journal without numbers) the names of what it replaces."""
    lines = [
        _Line(
            record.payload.decode(),
            {name: base64.b64encode(data).decode() for name, data in sorted(record.signatures.items())},
        )
        for record in records
    ]
    return packed(msgspec.json.encode(_Page(lines, list(covers)) if covers else lines))


def decode_page(data: bytes, where: str) -> tuple[frozenset[str], list[Signed]]:
    """What an object replaces, and its records. Raises FetchError `repository.journal`."""
    try:
        page = msgspec.json.decode(unpacked(data, MOST, where), type=list[_Line] | _Page)
        covers, lines = (page.covers, page.records) if isinstance(page, _Page) else ([], page)
        return frozenset(covers), [
            Signed(line.payload.encode(), {name: base64.b64decode(text) for name, text in line.signatures.items()})
            for line in lines
        ]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FetchError("repository.journal", f"{where} is damaged: {error}") from error


def keep(path: str, data: bytes) -> None:
    """Keep a copy of something immutable; where that can't be, it is asked for again."""
    part = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(part, "wb") as file:
            file.write(data)
        os.rename(part, path)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
