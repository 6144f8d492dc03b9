"""Packages by their identity in a server's action cache: found without what they would be built of.

The digest of a build's own Action needs the toolchain's tree and every source. So each package is recorded under small
actions of another kind too: their command is nothing but the package's definition key, or its content key. They are
never run. The output is the package's archive, the same blob that the build left, and its metadata. Whether such an
action was ever recorded says the storage, of all packages at once (FindMissingBlobs).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest, digest_from_hex
from boxwright.repositories.binary.place import at_once
from boxwright.repositories.ports import Offer, Wanted
from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.cas import Cas
from boxwright.repositories.reapi.connection import Connection
from boxwright.repositories.reapi.settings import EMPTY, Blob, RemoteError
from boxwright.repositories.reapi.trees import blob_of, digest_message

ACTION_CACHE = "/build.bazel.remote.execution.v2.ActionCache"
COMMAND = "boxwright-package-1"
ARCHIVE, METADATA = "package.tar", "package.json"
MOST_METADATA = 64 << 20
LEVEL = 3
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DEFINITION, KEY, TEST = "definition", "key", "test"


class Named(NamedTuple):
    """A small action: what it names is `identity`, of a kind."""

    action: Blob
    data: bytes
    command: Blob
    command_data: bytes


class Recorded(NamedTuple):
    """A package that a build left: its metadata, its archive as a blob, and all definition keys that came to it."""

    record: Mapping[str, Any]
    archive: Blob
    definitions: tuple[Digest, ...]


class _Found(NamedTuple):
    record: dict[str, Any]
    definitions: frozenset[str]
    archive: Blob


class RemotePackages:
    """The packages of one server. For many threads. `failed` is told where it can't be asked; it has nothing then."""

    def __init__(
        self, name: str, cas: Cas, cache: Connection, instance: str, failed: Callable[[RemoteError], None]
    ) -> None:
        self.name = name
        self._failed = failed
        self._cas = cas
        self._cache = cache
        self._instance = instance

    # Reading ------------------------------------------------------------------------------------------------------

    def find(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Offer]:
        """Those that are there, by their definition or, where that is known, by their content key."""
        asked = {it: [named(DEFINITION, it.definition)] for it in wanted}
        for it in wanted:
            if it.key is not None:
                asked[it].append(named(KEY, it.key))
        try:
            results = self._results([action for actions in asked.values() for action in actions])
        except RemoteError as error:
            self._failed(error)
            return {}
        offers: dict[Wanted, Offer] = {}
        for it, actions in asked.items():
            for action in actions:
                offer = _offer(it, results[action.action]) if action.action in results else None
                if offer is not None:
                    offers.setdefault(it, offer)
        return offers

    def _results(self, actions: Sequence[Named]) -> dict[Blob, _Found]:
        """What was recorded of these actions: only of those of which the storage knows is the cache asked."""
        asked = list(dict.fromkeys(action.action for action in actions))
        missing = set(self._cas.missing(asked))
        there = [blob for blob in asked if blob not in missing]
        found = zip(there, at_once(self._result, there), strict=True)
        return {blob: result for blob, result in found if result is not None}

    def _result(self, action: Blob) -> _Found | None:
        result = self._ask(action)
        if result is None:
            return None
        files = {file.path: Blob(file.digest.hash, file.digest.size_bytes) for file in result.output_files}
        if ARCHIVE not in files or METADATA not in files or files[METADATA].size > MOST_METADATA:
            return None
        try:
            known = json.loads(self._cas.read_any(files[METADATA]))
            record, definitions = dict(known["record"]), frozenset(map(str, known["definitions"]))
        except RemoteError as error:
            if error.gone:
                raise
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return _Found(record, definitions, files[ARCHIVE])

    def _ask(self, action: Blob) -> Any:  # noqa: ANN401 - a message, or nothing
        request = messages.GetActionResultRequest(instance_name=self._instance, action_digest=digest_message(action))
        result = self._cache.call(f"{ACTION_CACHE}/GetActionResult", request, messages.ActionResult, absent=True)
        return None if result is None or result.exit_code else result

    def refusals(self) -> Sequence[str]:
        """Nothing: an Action that was recorded by nobody has no result."""
        return ()

    def tested(self, keys: Sequence[Digest]) -> set[Digest]:
        """Of the keys of packages' tests those that passed where the packages come from."""
        actions = {key: named(TEST, key).action for key in keys}
        try:
            missing = set(self._cas.missing(list(actions.values())))
            there = [key for key, action in actions.items() if action not in missing]
            passed = at_once(lambda key: self._ask(actions[key]) is not None, there)
        except RemoteError as error:
            self._failed(error)
            return set()
        return {key for key, it in zip(there, passed, strict=True) if it}

    def fetch(self, offer: Offer, target: str, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Write the package's tar, compressed, to the new file `target`; returns its metadata.

        The tar is what its digest says, and that is the one of the metadata.
        """
        import zstandard

        found: _Found = offer.handle
        plain = f"{target}.tar"
        try:
            self._cas.fetch(found.archive, plain)
            if cancelled():
                raise BoxwrightError("build.cancelled", "cancelled")
            with open(plain, "rb") as source, open(target, "xb") as file:
                zstandard.ZstdCompressor(level=LEVEL).copy_stream(source, file)
        except OSError as error:
            raise RemoteError("remote.no-space", f"{target} can't be written: {error.strerror}") from error
        finally:
            if os.path.lexists(plain):
                os.unlink(plain)
        return found.record

    def fetch_source(self, content: str, target: str, cancelled: Callable[[], bool]) -> bool:
        """Sources are nowhere by themselves."""
        return False

    def close(self) -> None:
        """The connections are the server's own."""

    # Writing ------------------------------------------------------------------------------------------------------

    def record(self, packages: Sequence[Recorded], tests: Sequence[Digest]) -> None:
        """Record packages whose archives are there, and tests that passed. Others are left out."""
        there = {it.archive for it in packages} - set(self._cas.missing([it.archive for it in packages]))
        work: list[tuple[Named, Blob | None, Blob | None]] = [(named(TEST, key), None, None) for key in tests]
        blobs: dict[Blob, bytes | str] = {}
        for package in packages:
            if package.archive not in there:
                continue
            known = {"record": package.record, "definitions": sorted(package.definitions)}
            metadata = json.dumps(known, sort_keys=True, separators=(",", ":")).encode()
            blobs[blob_of(metadata)] = metadata
            identities = [(DEFINITION, it) for it in package.definitions] + [(KEY, package.record["key"])]
            work += [(named(*it), package.archive, blob_of(metadata)) for it in identities]
        for action, _, _ in work:
            blobs |= {action.command: action.command_data}
        self._cas.ensure(blobs, blobs.__getitem__)
        at_once(lambda item: self._update(*item), work)
        # The actions come last: that they are there says that there is a result to ask for.
        actions: dict[Blob, bytes | str] = {action.action: action.data for action, _, _ in work}
        self._cas.ensure(actions, actions.__getitem__)

    def _update(self, action: Named, archive: Blob | None, metadata: Blob | None) -> None:
        request = messages.UpdateActionResultRequest(
            instance_name=self._instance, action_digest=digest_message(action.action)
        )
        for path, blob in ((ARCHIVE, archive), (METADATA, metadata)):
            if blob is not None:
                file = request.action_result.output_files.add(path=path)
                file.digest.hash, file.digest.size_bytes = blob
        if archive is None:
            request.action_result.stdout_raw = b"passed\n"
        self._cache.call(f"{ACTION_CACHE}/UpdateActionResult", request, messages.ActionResult)


def named(kind: str, identity: str) -> Named:
    """The small action of an identity. Equal identities give equal digests, on every machine."""
    command = messages.Command(arguments=[COMMAND, kind, identity], output_paths=[METADATA, ARCHIVE])
    command_data = command.SerializeToString(deterministic=True)
    action = messages.Action(
        command_digest=digest_message(blob_of(command_data)), input_root_digest=digest_message(EMPTY)
    )
    data = action.SerializeToString(deterministic=True)
    return Named(blob_of(data), data, blob_of(command_data), command_data)


def _offer(wanted: Wanted, found: _Found) -> Offer | None:
    """A package as it is offered; None where what was recorded is none, of another archive or of another package."""
    record = found.record
    digests = [record.get(name) for name in ("definition", "key", "content", "archive", "toolchain")]
    dependencies, name = record.get("dependencies"), record.get("name")
    if not all(isinstance(it, str) and _DIGEST.fullmatch(it) for it in digests):
        return None
    if not isinstance(dependencies, dict) or not isinstance(name, str):
        return None
    if record["archive"] != digest_from_hex(found.archive.hash):
        return None
    if wanted.definition not in found.definitions and record["key"] != wanted.key:
        return None
    return Offer(
        wanted.definition,
        Digest(record["key"]),
        name,
        Digest(record["content"]),
        Digest(record["archive"]),
        dependencies,
        record["toolchain"],
        found.archive.size,
        found,
    )
