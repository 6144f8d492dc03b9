"""The records of a repository: looked up with their signatures checked, published with signatures, named."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from boxwright.errors import BoxwrightError, FetchError
from boxwright.repositories.binary.journal import Journal, Signed
from boxwright.repositories.binary.keys import SIGNATURE_SIZE, PrivateKey, PublicKey, Trust
from boxwright.repositories.binary.loosejournal import LooseJournal, is_listing
from boxwright.repositories.binary.place import MissingError, Place, Source, UnreadableError, Upload, at_once, whole
from boxwright.repositories.binary.records import (
    FORMAT,
    MOST,
    Entry,
    NameEntry,
    RevokedEntry,
    as_json,
    blobs_of,
    decode,
    encode,
    identities,
    name_record,
    record_name,
    revoked_name,
    signature_name,
)

ROOT = "boxwright-repository.json"
DIRECT = 8
"""So many identities of a distant place are asked for one by one, more by the journal."""
PAUSES = (0.0, 0.3, 1.0, 2.0)
"""Seconds that a cache on the way down may take to forget that there was no repository."""
Identity = tuple[str, str]
"""A record's kind of identity (definition, key, tree, image, test) and its digest."""


class Memory(Protocol):
    """What a client remembers of repositories, so that nobody can offer it something older: pins of the store."""

    def pin(self, name: str) -> str | None:
        """What was remembered under a name."""
        ...

    def keep_pin(self, name: str, value: str) -> None:
        """Remember something."""
        ...


class Catalog:
    """The records of one repository. Safe for threads once `open` was called.

    `name` is what configuration calls it. `refused` collects why records that are there were not taken.
    """

    def __init__(self, name: str, source: Source, trust: Trust, memory: Memory, cache: str) -> None:
        self.name = name
        self.source = source
        self.trust = trust
        self.refused: list[str] = []
        self._memory = memory
        self._cache = cache
        self._journal: Journal | LooseJournal | None = None
        self._opened = False
        self._guard = threading.Lock()
        self._known: dict[Identity, list[Signed]] = {}
        self._noted = 0

    def open(self) -> bool:
        """Whether there is a repository. Raises FetchError where that can't be said, or it is of another format."""
        with self._guard:
            return self._open()

    def _open(self) -> bool:
        if self._opened:
            return self._journal is not None
        try:
            root = as_json(whole(self.source, ROOT, MOST), f"{self.source.where}: {ROOT}")
        except MissingError:
            self._opened = True
            return False
        if root.get("format") != FORMAT:
            raise FetchError(
                "repository.format",
                f"{self.source.where} is a repository of format {root.get('format')}",
                hint="a newer boxwright made it",
            )
        identity = hashlib.sha256(f"{self.source.where}\0{root.get('id')}".encode()).hexdigest()[:32]
        cache = f"{self._cache}/{identity}"
        self._journal = LooseJournal(self.source, cache) if is_listing(self.source) else Journal(self.source, cache)
        self.trust = self.trust.without(self._revoked())
        self._opened = True
        return True

    @property
    def cache(self) -> str:
        """A directory for copies of what never changes there."""
        return f"{self._cache}/content"

    def _revoked(self) -> list[str]:
        """Those of the trusted keys that the repository says, or once said, are revoked by a key that counts."""
        asked = at_once(self._is_revoked, self.trust.keys)
        return [key.id for key, revoked in zip(self.trust.keys, asked, strict=True) if revoked]

    def _is_revoked(self, key: PublicKey) -> bool:
        identity = key.id
        pin = f"revoked {self.name} {identity}"
        if self._memory.pin(pin):
            return True
        entry = self._read_record(revoked_name(identity))
        if isinstance(entry, RevokedEntry) and entry.key == identity:
            self._memory.keep_pin(pin, "1")
            return True
        return False

    # Reading ------------------------------------------------------------------------------------------------------

    def lookup(self, wanted: Sequence[Identity]) -> dict[Identity, Entry]:
        """The records under these identities, those that a key that counts has signed."""
        if not self.open() or not wanted:
            return {}
        if self.source.distant and len(wanted) > DIRECT:
            with suppress(FetchError):
                return self._from_journal(wanted)
        found = zip(wanted, at_once(lambda it: self._read_record(record_name(*it), it), wanted), strict=True)
        return {identity: entry for identity, entry in found if entry is not None}

    def has(self, identity: Identity) -> bool:
        """Whether a record need not be published: one that the place can't read is put again."""
        with suppress(UnreadableError):
            return identity in self.lookup([identity])
        return False

    def _from_journal(self, wanted: Iterable[Identity]) -> dict[Identity, Entry]:
        self._read_journal()
        found: dict[Identity, Entry] = {}
        for identity in wanted:
            for signed in self._known.get(identity, ()):
                entry = self._accepted(signed, "the journal", identity)
                if entry is not None:
                    found[identity] = entry
                    break
        return found

    def _read_journal(self) -> None:
        if self._journal is None:
            return
        records = self._journal.records()
        for signed in records[self._noted :]:
            with suppress(FetchError):
                for identity in identities(decode(signed.payload, "the journal")):
                    self._known.setdefault(identity, []).append(signed)
        self._noted = len(records)

    def everything(self) -> list[Entry]:
        """All records that count, as the journal has them. Raises FetchError where it is damaged."""
        if not self.open() or self._journal is None:
            return []
        found = (self._accepted(signed, "the journal") for signed in self._journal.records())
        return [entry for entry in found if entry is not None]

    def _read_record(self, name: str, identity: Identity | None = None) -> Entry | None:
        """The record of this name, None where there is none that counts."""
        try:
            payload = whole(self.source, name, MOST)
        except MissingError:
            return None
        return self._accepted(Signed(payload, self._signatures(payload)), name, identity)

    def _signatures(self, payload: bytes) -> dict[str, bytes]:
        """The first signature by a key that counts."""
        for key in self.trust.keys:
            with suppress(MissingError):
                return {key.id: whole(self.source, signature_name(payload, key.id), SIGNATURE_SIZE)}
        return {}

    def _accepted(self, signed: Signed, where: str, identity: Identity | None = None) -> Entry | None:
        """The record, where a key that counts signed it and it is of the identity that was asked for."""
        if not any(self.trust.accepts(signer, data, signed.payload) for signer, data in signed.signatures.items()):
            self.refused.append(f"{where} is signed by no key that is configured for {self.name}")
            return None
        entry = decode(signed.payload, f"{self.source.where}: {where}")
        if identity is not None and identity not in identities(entry):
            self.refused.append(f"{where} is the record of something else")
            return None
        return entry

    # Names --------------------------------------------------------------------------------------------------------

    def named(self, name: str) -> NameEntry | None:
        """What a name stands for now. Raises FetchError `repository.rollback` where it stood for something newer."""
        if not self.open():
            return None
        pin = f"named {self.name} {name}"
        seen = int(self._memory.pin(pin) or 0)
        for number in range(self._newest(name, seen), 0, -1):
            if number < seen:
                break
            entry = self._read_record(name_record(name, number), ("name", f"{name} {number}"))
            if isinstance(entry, NameEntry):
                self._memory.keep_pin(pin, str(number))
                return entry
        if seen:
            raise FetchError(
                "repository.rollback",
                f"{self.name} offers an older {name} than it did before (number {seen} is gone)",
                hint="somebody may be replaying old content; ask who runs the repository",
            )
        return None

    def _newest(self, name: str, seen: int) -> int:
        """The highest number of a name: steps that double, then halving; each round asks for many at once."""
        low = seen
        while True:
            steps = [low + (1 << step) for step in range(16)]
            there = self.source.present([name_record(name, number) for number in steps])
            highest = low
            for number in steps:
                if name_record(name, number) not in there:
                    break
                highest = number
            if highest == low:
                return low
            low = highest

    # Writing ------------------------------------------------------------------------------------------------------

    def initialise(self, place: Place) -> None:
        """Make the repository, where there is none yet, or none that can be read."""
        with suppress(UnreadableError):
            if self.open():
                return
        text = f'{{"format": {FORMAT}, "id": "{secrets.token_hex(16)}"}}\n'
        place.put([Upload(ROOT, text.encode())])
        for pause in PAUSES:
            time.sleep(pause)
            self._opened = False
            if self.open():
                return
        raise FetchError(
            "repository.elsewhere",
            f"what is uploaded to {place.where} can't be read from {self.source.where}",
            hint="do download-path and upload-path name the same directory? Does a cache remember what is missing?",
        )

    def publish(self, place: Place, key: PrivateKey, entries: Sequence[Entry]) -> list[Entry]:
        """Sign and put records; what they name must be there. Returns those for which another was there first.

        Signatures are put before the records that they are of: a record without one never shows. A record that is there
        already is left; where it says the same, this key signs it too.
        """
        if not entries:
            return []
        self.initialise(place)
        payloads = [encode(entry) for entry in entries]
        place.put([Upload(signature_name(data, key.public.id), key.sign(data)) for data in payloads])
        targets = {
            name: (entry, data) for entry, data in zip(entries, payloads, strict=True) for name in _object_names(entry)
        }
        taken = place.put([_record(name, entry, data) for name, (entry, data) in targets.items()])
        kept, signed = self._beside(place, key, [(name, *targets[name]) for name in taken])
        new = {data for name, (_, data) in targets.items() if name not in taken}
        signed += [Signed(data, {key.public.id: key.sign(data)}) for data in payloads if data in new]
        self._note(place, signed)
        return kept

    def _note(self, place: Place, signed: Sequence[Signed]) -> None:
        """Add records to the journal."""
        if isinstance(self._journal, LooseJournal):
            self._journal.append(place, signed, lambda: self._all_signed(place))
        elif self._journal is not None:
            self._journal.append(place, signed)

    def _all_signed(self, place: Place) -> list[Signed]:
        """Every record that can be read, with the signatures of keys that count."""

        def read(name: str) -> Signed | None:
            with suppress(FetchError):
                payload = whole(place, name, MOST)
                return Signed(payload, self._signatures(payload))
            return None

        found = at_once(read, [it.name for prefix in ("records/", "names/") for it in place.names(prefix)])
        return [it for it in found if it is not None and it.signatures]

    def _beside(
        self, place: Place, key: PrivateKey, taken: Sequence[tuple[str, Entry, bytes]]
    ) -> tuple[list[Entry], list[Signed]]:
        """What to do about records that were there: those of other content, and those that this key now signs too."""
        kept: list[Entry] = []
        signed: dict[bytes, Signed] = {}
        read = at_once(lambda item: self._there(place, item[0]), taken)
        for (_, entry, _), there in zip(taken, read, strict=True):
            other = there[1]
            if other is None or not says_the_same(entry, other):
                kept.append(entry)
            else:
                signed[there[0]] = Signed(there[0], {key.public.id: key.sign(there[0])})
        place.put(
            [Upload(signature_name(it.payload, key.public.id), it.signatures[key.public.id]) for it in signed.values()]
        )
        return kept, list(signed.values())

    def _there(self, place: Place, name: str) -> tuple[bytes, Entry | None]:
        payload = whole(place, name, MOST)
        try:
            return payload, decode(payload, name)
        except BoxwrightError:
            return payload, None

    def publish_name(self, place: Place, key: PrivateKey, name: str, entry: NameEntry) -> NameEntry:
        """Let a name stand for something from now on: the next free number is taken."""
        self.initialise(place)
        known = self.named(name)
        if known is not None and says_the_same(known, entry):
            return known
        number = self._newest(name, known.number if known else 0)
        while True:
            number += 1
            numbered = NameEntry(
                name=name, number=number, time=entry.time, image=entry.image, images=entry.images, spec=entry.spec
            )
            data = encode(numbered)
            signature = key.sign(data)
            place.put([Upload(signature_name(data, key.public.id), signature)])
            if not place.put([_record(name_record(name, number), numbered, data)]):
                self._note(place, [Signed(data, {key.public.id: signature})])
                return numbered

    def prune(self, place: Place, before: int) -> int:
        """Remove what nobody reads any more of the journal, put before then; returns how many objects."""
        return self._journal.prune(place, before) if self.open() and isinstance(self._journal, LooseJournal) else 0

    def revoke(self, place: Place, key: PrivateKey, identity: str, reason: str, time: int) -> None:
        """Say that a key no longer counts."""
        data = encode(RevokedEntry(key=identity, reason=reason, time=time))
        place.put([Upload(signature_name(data, key.public.id), key.sign(data))])
        place.put([Upload(revoked_name(identity), data)])


def _record(name: str, entry: Entry, data: bytes) -> Upload:
    return Upload(name, data, needs=tuple((blob.digest, blob.size) for blob in blobs_of(entry)))


def _object_names(entry: Entry) -> list[str]:
    return [record_name(kind, identity) for kind, identity in identities(entry)]


def says_the_same(one: Entry, other: Entry) -> bool:
    """Whether two records are of the same bytes, whoever published them when."""
    return type(one) is type(other) and essence(one) == essence(other)


def essence(entry: Entry) -> Mapping[str, object]:
    """What a record says of content."""
    ignored = {"time", "name", "packs", "blob", "metadata", "sources", "number", "note", "definition"}
    return {name: getattr(entry, name) for name in entry.__struct_fields__ if name not in ignored}
