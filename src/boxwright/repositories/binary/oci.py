"""A repository of an OCI registry as a place: content is blobs, every other object is a manifest under a tag.

A registry can't put a tag only where none is: of two that put one at once the last stays. So who puts a tag looks
before and afterwards, and the journal, of which nothing may be lost, has names that no two writers choose alike
(loosejournal.py). It lies in a repository of its own below, so that its list of tags is short however many packages
there are. A record's manifest names its content as layers: the registry keeps that as long as the record.

A registry that is killed while it writes may keep half of a tag or of a link to a blob: it lists the tag, and answers
500 for it. So what it can't read counts as not there when it is to be put, which mends it.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, TypeVar

from boxwright.errors import FetchError
from boxwright.model.digest import Digest, digest_from_hex, digest_of
from boxwright.repositories.binary.place import Listed, MissingError, UnreadableError, Upload, at_once, checked
from boxwright.repositories.registry.client import MANIFEST_TYPE, Client, Manifest
from boxwright.repositories.registry.failures import RegistryError
from boxwright.repositories.registry.retries import pause
from boxwright.repositories.registry.transport import Answer, Body

OBJECT_TYPE = "application/vnd.boxwright.object.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
CONTENT_TYPE = "application/octet-stream"
NAME, DATA, CREATED = "dev.boxwright.name", "dev.boxwright.data", "org.opencontainers.image.created"
INLINE = 32 << 10
"""Objects up to so many bytes stand in their manifest: reading one is one request."""
JOURNAL = "journal/"
BLOBS = "blobs/"
ATTEMPTS = 3
PAUSE_SECONDS = 0.2
SERVER_ERROR = 500
SLOWEST = 1000
"""Bytes a second below which a transfer is given up."""
_T = TypeVar("_T")
_EMPTY = b"{}"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_UNUSABLE = frozenset("_+@~")


class OciPlace:
    """Objects of ``HOST/REPOSITORY``. `connect` makes a client: of the repository below it (empty: itself), for pushes.

    `closed` is called at the end. `time_limit` (seconds) is how long a registry may say nothing.
    """

    distant = True
    loose = True

    def __init__(
        self, where: str, connect: Callable[[str, bool], Client], time_limit: float, closed: Callable[[], None]
    ) -> None:
        self.where = where
        self._connect = connect
        self._closed = closed
        self._time_limit = time_limit
        self._clients: dict[tuple[str, bool], Client] = {}
        self._prepared: set[str] = set()

    def _client(self, name: str, *, push: bool = False) -> Client:
        below = "journal" if name.startswith(JOURNAL) else ""
        found = self._clients.get((below, push))
        return found or self._clients.setdefault((below, push), self._connect(below, push))

    # Reading ------------------------------------------------------------------------------------------------------

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a connection that breaks is made again where it broke."""
        client = self._client(name)
        digest = _blob_of(name)
        if digest is None:
            manifest = self._manifest(name)
            if manifest is None:
                raise MissingError(self.where, name)
            data = _inline(manifest, f"{self.where}: {name}")
            if data is not None:
                yield data[start : None if size is None else start + size]
                return
            digest = Digest(_layers(manifest)[0]["digest"])
        yield from self._content(client, name, digest, start, None if size is None else start + size)

    def _content(self, client: Client, name: str, digest: Digest, start: int, end: int | None) -> Iterator[bytes]:
        began, position, failures = time.monotonic(), start, 0
        while end is None or position < end:
            opened = client.open_blob(digest, position, end)
            if opened is None:
                raise MissingError(self.where, name)
            before = position
            try:
                for piece in _pieces(*opened, position, end):
                    position += len(piece)
                    if time.monotonic() - began > self._time_limit + (position - start) / SLOWEST:
                        raise FetchError("repository.slow", f"{self.where}/{name} comes too slowly")
                    yield piece
            except TimeoutError as error:
                raise FetchError("repository.stalled", f"{self.where}/{name}: it says nothing more") from error
            except (OSError, http.client.HTTPException) as error:
                failures = 1 if position > before else failures + 1
                if failures >= ATTEMPTS:
                    raise client.failure(error, f"{self.where}/{name} could not be fetched") from error
                pause(PAUSE_SECONDS * failures, client.cancelled)
            else:
                return

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there, a request for each."""
        asked = list(names)
        return {name for name, there in zip(asked, at_once(self._is_there, asked), strict=True) if there}

    def _is_there(self, name: str) -> bool:
        digest = _blob_of(name)
        if digest is not None:
            return bool(_readable(lambda: self._client(name).has_blob(digest)))
        return _readable(lambda: self._client(name).digest(tag_of(name))) is not None

    def listed(self, prefix: str) -> set[str]:
        """The names of the objects below `prefix`, but content: one request, or a page for each thousand."""
        return {name for tag in self._client(prefix).tags() if (name := _name_of(prefix, tag)).startswith(prefix)}

    def names(self, prefix: str) -> Iterator[Listed]:
        """Every object below `prefix`, each looked at. Content is what manifests name: a registry lists no blobs."""
        below = [prefix] if prefix else ["", JOURNAL]
        tagged = [name for it in below if it != BLOBS for name in sorted(self.listed(it))]
        if prefix in ("", BLOBS):
            every = tagged if not prefix else sorted(self.listed(""))
            yield from self._contents([name for name in every if not name.startswith(JOURNAL)])
        for name, manifest in zip(tagged, at_once(self._manifest_or_error, tagged), strict=True):
            if isinstance(manifest, UnreadableError):
                yield Listed(name, 0, 0)
            elif manifest is not None:
                data = _inline(manifest, f"{self.where}: {name}")
                size = len(data) if data is not None else int(_layers(manifest)[0].get("size", 0))
                yield Listed(name, size, _time_of(manifest))

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return self._client(name).manifest(tag_of(name))
        except RegistryError as error:
            if error.status < SERVER_ERROR:
                raise
            raise UnreadableError(error.code, f"{error.message}: {name}", hint=error.hint) from error

    def _manifest_or_error(self, name: str) -> Manifest | UnreadableError | None:
        try:
            return self._manifest(name)
        except UnreadableError as error:
            return error

    def _contents(self, names: Sequence[str]) -> Iterator[Listed]:
        found: dict[Digest, int] = {}
        manifests = [it for it in at_once(self._manifest_or_error, names) if isinstance(it, Manifest)]
        for manifest in manifests:
            for layer in _layers(manifest):
                if layer.get("mediaType") == CONTENT_TYPE:
                    found.setdefault(Digest(layer["digest"]), _time_of(manifest))
        client = self._client("")
        sizes = at_once(lambda digest: _readable(lambda: client.blob_size(digest)), list(found))
        for (digest, when), size in zip(found.items(), sizes, strict=True):
            if size is not None:
                value = digest.removeprefix("sha256:")
                yield Listed(f"{BLOBS}{value[:2]}/{value}", size, when)

    # Writing ------------------------------------------------------------------------------------------------------

    def put(self, uploads: Sequence[Upload]) -> list[str]:
        """Put objects that are not there yet; of two that are put at once the last stays, and the other is told."""
        for client in {self._client(it.name, push=True) for it in uploads}:
            self._prepare(client)
        made = at_once(self._put, uploads)
        new = [(it.name, digest) for it, digest in zip(uploads, made, strict=True) if digest]
        stays = at_once(lambda item: self._stays(*item), new)
        mine = {name for (name, _), it_stays in zip(new, stays, strict=True) if it_stays}
        return [it.name for it in uploads if it.name not in mine]

    def _put(self, upload: Upload) -> Digest | None:
        """What was put under the name, None where something was there."""
        name, client = checked(upload.name), self._client(upload.name, push=True)
        content = _blob_of(name)
        if content is not None:
            if _readable(lambda: client.has_blob(content)):
                return None
            size = os.stat(upload.path).st_size if upload.path else len(upload.data)
            client.put_blob(content, _body(upload, size))
            return content
        if _readable(lambda: client.digest(tag_of(name))) is not None:
            return None
        data = upload.data
        if upload.path:
            with open(upload.path, "rb") as file:
                data = file.read()
        manifest = self._manifest_for(client, name, data, upload.needs)
        client.put_manifest(tag_of(name), manifest, MANIFEST_TYPE)
        return digest_of(manifest)

    def _manifest_for(self, client: Client, name: str, data: bytes, needs: Sequence[tuple[str, int]]) -> bytes:
        annotations = {NAME: name, CREATED: time.strftime(_TIME, time.gmtime())}
        layers = [_descriptor(CONTENT_TYPE, *it) for it in needs]
        if len(data) <= INLINE:
            annotations[DATA] = base64.b64encode(data).decode("ascii")
        else:
            digest = digest_of(data)
            client.put_blob(digest, Body(lambda: BytesIO(data), len(data)))
            layers.insert(0, _descriptor(OBJECT_TYPE, digest, len(data)))
        empty = _descriptor(EMPTY_TYPE, digest_of(_EMPTY), len(_EMPTY))
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": OBJECT_TYPE,
            "config": empty,
            "layers": layers or [empty],
            "annotations": annotations,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    def _prepare(self, client: Client) -> None:
        """Put the empty configuration that every manifest names."""
        if str(client) not in self._prepared:
            if not _readable(lambda: client.has_blob(digest_of(_EMPTY))):
                client.put_blob(digest_of(_EMPTY), Body(lambda: BytesIO(_EMPTY), len(_EMPTY)))
            self._prepared.add(str(client))

    def _stays(self, name: str, digest: Digest) -> bool:
        """Whether nobody put something else there at the same time."""
        return name.startswith(BLOBS) or self._client(name, push=True).digest(tag_of(name)) == digest

    def delete(self, names: Collection[str]) -> None:
        """Remove objects. Content goes with the registry's own collection, when no manifest names it."""
        at_once(self._delete, [name for name in names if _blob_of(name) is None])

    def _delete(self, name: str) -> None:
        client = self._client(name, push=True)
        digest = client.digest(tag_of(name))
        if digest is not None:
            client.delete_manifest(digest)

    def sweep(self, before: int) -> int:
        """Nothing is ever half put: content without a manifest is the registry's to collect."""
        return 0

    def close(self) -> None:
        """Let go of connections."""
        self._clients.clear()
        self._closed()


def _readable(ask: Callable[[], _T]) -> _T | None:
    """What a registry says of something; None where it can't read what it has."""
    try:
        return ask()
    except RegistryError as error:
        if error.status < SERVER_ERROR:
            raise
        return None


def tag_of(name: str) -> str:
    """The tag of an object: its name, with underscores for slashes."""
    if _UNUSABLE & set(checked(name)):
        raise FetchError("repository.name", f"{name!r} can't be the name of an object of a registry")
    return name.removeprefix(JOURNAL).replace("/", "_")


def _name_of(prefix: str, tag: str) -> str:
    return (JOURNAL if prefix.startswith(JOURNAL) else "") + tag.replace("_", "/")


def _blob_of(name: str) -> Digest | None:
    """The digest of a name that is content's."""
    return digest_from_hex(checked(name).rpartition("/")[2]) if name.startswith(BLOBS) else None


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _body(upload: Upload, size: int) -> Body:
    return Body(lambda: open(upload.path, "rb") if upload.path else BytesIO(upload.data), size)


def _layers(manifest: Manifest) -> list[Mapping[str, Any]]:
    """The layers of an object's manifest. Raises FetchError where it is none."""
    layers = manifest.value.get("layers")
    if not isinstance(layers, list) or not layers:
        raise FetchError("repository.record", f"{manifest.digest} is no object of a repository")
    for layer in layers:
        if not isinstance(layer, dict) or not str(layer.get("digest", "")).startswith("sha256:"):
            raise FetchError("repository.record", f"{manifest.digest} is no object of a repository")
    return layers


def _annotations(manifest: Manifest) -> Mapping[str, Any]:
    found = manifest.value.get("annotations")
    return found if isinstance(found, dict) else {}


def _inline(manifest: Manifest, where: str) -> bytes | None:
    """The bytes that stand in the manifest itself; None where a layer has them. Raises FetchError."""
    text = _annotations(manifest).get(DATA)
    if isinstance(text, str):
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise FetchError("repository.record", f"{where} is damaged: {error}") from error
    if _layers(manifest)[0].get("mediaType") == OBJECT_TYPE:
        return None
    raise FetchError("repository.record", f"{where} is no object of a repository")


def _time_of(manifest: Manifest) -> int:
    import calendar

    try:
        return calendar.timegm(time.strptime(str(_annotations(manifest).get(CREATED)), _TIME))
    except ValueError:
        return 0


def _pieces(answer: Answer, at: int, position: int, end: int | None) -> Iterator[bytes]:
    """The bytes from `position` to `end` of an answer that begins at `at`. Raises OSError where it ends early."""
    said = answer.headers.get("content-length", "")
    left = int(said) if said.isdecimal() else None
    try:
        while end is None or at < end:
            data = answer.read1()
            if not data:
                break
            left = None if left is None else left - len(data)
            piece = data[max(0, position - at) :][: None if end is None else max(0, end - max(at, position))]
            at += len(data)
            if piece:
                yield piece
        else:
            return
        if left:
            raise ConnectionError(f"{left} bytes are missing")
    finally:
        answer.close()
