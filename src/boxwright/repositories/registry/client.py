"""One repository of a registry: its blobs and manifests (OCI distribution-spec 1.1).

What is sent can be sent again, what comes is compared with its digest. Requests that fail for reasons that may pass are
repeated. Safe for threads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

from boxwright.errors import BoxwrightError
from boxwright.files import write_all
from boxwright.model.digest import Digest, digest_of
from boxwright.repositories.registry.credentials import Login
from boxwright.repositories.registry.failures import RegistryError, malformed, refusal, unreachable, wrong_content
from boxwright.repositories.registry.hosts import Place
from boxwright.repositories.registry.retries import PassingError, Patience, is_passing, patiently, pause, wait_of
from boxwright.repositories.registry.tokens import Tokens, parse_challenge
from boxwright.repositories.registry.transport import (
    BODY_MOST,
    HTTP,
    HTTPS,
    Address,
    Answer,
    Body,
    Transport,
    absolute,
    reason_of,
)

_T = TypeVar("_T")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (INDEX_TYPE, DOCKER_LIST)
MANIFESTS = (MANIFEST_TYPE, DOCKER_MANIFEST, *INDEXES)

_LOCAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _PARTIAL = 200, 201, 202, 204, 206
_UNAUTHORIZED, _NOT_FOUND, _BEYOND = 401, 404, 416
_UNKNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_LOOKS = 4
_LOOK_SECONDS = 0.1
_TAGS_AT_ONCE = 1000
_TAGS_MOST = 64 << 20
_MOST_PAGES = 1000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


class Manifest(NamedTuple):
    """A manifest or an index as its bytes; `value` is the JSON."""

    data: bytes
    media_type: str
    digest: Digest
    value: Mapping[str, Any]

    @property
    def is_index(self) -> bool:
        """Whether it names other manifests."""
        return self.media_type in INDEXES or "manifests" in self.value


class Client:
    """A repository at one place. `push`: write access is asked for."""

    def __init__(
        self,
        place: Place,
        transport: Transport,
        login: Callable[[], Login | None],
        *,
        push: bool = False,
        patience: Patience = Patience(),  # noqa: B008 - a value
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.place = place
        self.transport = transport
        self._tokens = Tokens(transport, place.host, login)
        self._scope = f"repository:{place.repository}:pull{',push' if push else ''}"
        self._patience = patience
        self.cancelled = cancelled
        self._scheme = HTTPS
        self._settled = False

    def __str__(self) -> str:
        return f"{self.place.host}/{self.place.repository}"

    def allow_mount_from(self, repository: str) -> None:
        """Ask for the right to read another repository too, so that its blobs can be taken over."""
        self._scope += f" repository:{repository}:pull"

    # Blobs -----------------------------------------------------------------------------------------------------------

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob."""
        with closing(self._ask("HEAD", f"blobs/{digest}", f"{self}: its blobs", accept=(_OK, _NOT_FOUND))) as answer:
            return answer.status == _OK

    def blob_size(self, digest: Digest) -> int | None:
        """The bytes of a blob, None where the repository doesn't have it."""
        with closing(self._ask("HEAD", f"blobs/{digest}", f"{self}: its blobs", accept=(_OK, _NOT_FOUND))) as answer:
            said = answer.headers.get("content-length", "")
            return int(said) if answer.status == _OK and said.isdecimal() else None

    def mount(self, digest: Digest, repository: str) -> bool:
        """Take a blob over from another repository of this registry; False where that one doesn't give it."""
        fields = urllib.parse.urlencode({"mount": digest, "from": repository})
        what = f"{self}: the blob {digest} could not be taken over"
        answer = self._ask("POST", f"blobs/uploads/?{fields}", what, accept=(_CREATED, _ACCEPTED))
        answer.whole()
        return answer.status == _CREATED

    def put_blob(self, digest: Digest, body: Body) -> None:
        """Send a blob, whole. One that is there already costs what it takes to send it."""
        what = f"{self}: the blob {digest[:19]} could not be pushed"

        def upload() -> None:
            address, target = self._start_upload(what)
            joint = "&" if "?" in target else "?"
            answer = self._once(
                "PUT",
                (address, f"{target}{joint}{urllib.parse.urlencode({'digest': digest})}"),
                what,
                {"Content-Type": "application/octet-stream"},
                body,
                (_CREATED, _OK),
            )
            answer.whole()

        self._patiently(upload, what)

    def _start_upload(self, what: str) -> tuple[Address, str]:
        address, target = self._at("blobs/uploads/")
        answer = self._once("POST", (address, target), what, {}, b"", (_ACCEPTED,))
        answer.whole()
        location = answer.headers.get("location", "")
        if not location:
            raise malformed(what, self.place.host, "it says no place to send the blob to")
        return absolute(address, target, location)

    def get_blob(self, digest: Digest, size: int, target: str) -> None:
        """Write a blob to the file `target`; what is there of it from before is used. Raises where it differs."""
        what = f"{self}: the blob {digest[:19]} could not be fetched"

        def fetch() -> None:
            start = os.path.getsize(target) if os.path.exists(target) else 0
            if start >= size:
                start = 0
            headers = {"Range": f"bytes={start}-"} if start else {}
            answer = self._once(
                "GET", self._at(f"blobs/{digest}"), what, headers, None, (_OK, _PARTIAL) if start else (_OK,)
            )
            with closing(answer):
                self._save(answer, target, start if answer.status == _PARTIAL else 0, size, what)
            if _file_digest(target) != digest:
                os.unlink(target)
                raise wrong_content(what, digest)

        self._patiently(fetch, what)

    def _save(self, answer: Answer, target: str, start: int, size: int, what: str) -> None:
        """Write a body to its place in a file; OSError where it ends early."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, start)
            os.lseek(descriptor, start, os.SEEK_SET)
            got = start
            while data := answer.read1():
                got += len(data)
                if got > size:
                    raise malformed(what, self.place.host, f"more than the {size} bytes that it was to have")
                write_all(descriptor, data)
                self._check_cancelled()
        finally:
            os.close(descriptor)
        if got < size:
            raise ConnectionError(f"only {got} of {size} bytes came")

    def open_blob(self, digest: Digest, start: int, end: int | None) -> tuple[Answer, int] | None:
        """An answer with a blob's bytes from `start` to `end`, and where in the blob it begins; None: it isn't there.

        A server that doesn't know ranges begins at 0. What comes is not verified.
        """
        what = f"{self}: the blob {digest[:19]} could not be fetched"
        headers = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        accept = (_OK, _PARTIAL, _NOT_FOUND, _BEYOND)
        answer = self._ask("GET", f"blobs/{digest}", what, headers, accept=accept)
        if answer.status in (_OK, _PARTIAL):
            return answer, start if answer.status == _PARTIAL else 0
        answer.whole()
        if answer.status == _NOT_FOUND:
            return None
        raise malformed(what, self.place.host, f"it ends before byte {start}")

    def small_blob(self, digest: Digest) -> bytes:
        """A blob of a few megabytes at most, verified."""
        what = f"{self}: the blob {digest[:19]} could not be fetched"

        def fetch() -> bytes:
            data = self._once("GET", self._at(f"blobs/{digest}"), what, {}, None, (_OK,)).whole()
            if len(data) < BODY_MOST and digest_of(data) == digest:
                return data
            raise wrong_content(what, digest)

        return self._patiently(fetch, what)

    # Manifests -------------------------------------------------------------------------------------------------------

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest of a tag or a digest; None where there is none."""
        what = f"{self}: {reference} could not be fetched"
        headers = {"Accept": ", ".join(MANIFESTS)}
        answer = self._ask("GET", f"manifests/{reference}", what, headers, accept=(_OK, _NOT_FOUND))
        data = answer.whole()
        if answer.status == _NOT_FOUND:
            return None
        digest = digest_of(data)
        if _DIGEST.fullmatch(reference) and digest != reference:
            raise wrong_content(what, reference)
        value = _json(data)
        if value is None:
            raise malformed(what, self.place.host, "its manifest is no JSON object")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Manifest(data, str(value.get("mediaType") or kind), digest, value)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> bool:
        """Name a manifest, by a tag or by its digest. Gives whether the registry keeps referrers (OCI-Subject)."""
        what = f"{self}: {reference} could not be pushed"
        headers, accept = {"Content-Type": media_type}, (_CREATED, _OK, _ACCEPTED)
        answer = self._seen(lambda: self._ask("PUT", f"manifests/{reference}", what, headers, data, accept=accept))
        answer.whole()
        said = answer.headers.get("docker-content-digest", "")
        if said and said != digest_of(data):
            raise wrong_content(what, digest_of(data))
        return bool(answer.headers.get("oci-subject"))

    def _seen(self, put: Callable[[], Answer]) -> Answer:
        """Put a manifest. docker-registry loses sight of a blob for a moment while somebody pushes the same one."""
        for attempt in range(_LOOKS):
            try:
                return put()
            except RegistryError as error:
                if _UNKNOWN.isdisjoint(error.codes):
                    raise
                pause(_LOOK_SECONDS * 2**attempt, self.cancelled)
        return put()

    def tags(self) -> list[str]:
        """Every tag of the repository (distribution-spec, "Listing Tags"); none where there is no such repository."""
        what = f"{self}: its tags could not be listed"
        found: list[str] = []
        target = f"tags/list?n={_TAGS_AT_ONCE}"
        for _ in range(_MOST_PAGES):
            answer = self._ask("GET", target, what, accept=(_OK, _NOT_FOUND))
            data = answer.whole(_TAGS_MOST)
            if answer.status == _NOT_FOUND:
                return found
            listed = _json(data)
            if listed is None:
                raise malformed(what, self.place.host, "its list of tags is no JSON object")
            found += [tag for tag in listed.get("tags") or () if isinstance(tag, str) and _TAG.fullmatch(tag)]
            query = _next_page(answer)
            if not query:
                return found
            target = f"tags/list?{query}"
        raise malformed(what, self.place.host, "its list of tags does not end")

    def digest(self, reference: str) -> Digest | None:
        """What a tag stands for now; None where there is none."""
        what = f"{self}: {reference} could not be looked up"
        headers = {"Accept": ", ".join(MANIFESTS)}
        with closing(self._ask("HEAD", f"manifests/{reference}", what, headers, accept=(_OK, _NOT_FOUND))) as answer:
            if answer.status == _NOT_FOUND:
                return None
            said = answer.headers.get("docker-content-digest", "")
        if _DIGEST.fullmatch(said):
            return Digest(said)
        found = self.manifest(reference)
        return found.digest if found else None

    def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest, and the tags that stand for it; what is not there is no error."""
        what = f"{self}: {digest[:19]} could not be removed"
        self._ask("DELETE", f"manifests/{digest}", what, accept=(_ACCEPTED, _OK, _NO_CONTENT, _NOT_FOUND)).whole()

    def referrers(self, digest: Digest) -> list[Mapping[str, Any]]:
        """The descriptors of what refers to a manifest: as the registry knows it, else under the tag for it.

        distribution-spec, "Listing Referrers" and "Referrers Tag Schema".
        """
        what = f"{self}: what refers to {digest} could not be listed"
        found: list[Mapping[str, Any]] = []
        target = f"referrers/{digest}"
        for _ in range(_MOST_PAGES):
            answer = self._ask("GET", target, what, {"Accept": INDEX_TYPE}, accept=(_OK, _NOT_FOUND, 400, 405))
            data = answer.whole()
            index = _json(data) if answer.status == _OK else None
            if index is None or not isinstance(index.get("manifests"), list):
                fallback = self.manifest(fallback_tag(digest))
                return found + descriptors(fallback.value if fallback else {})
            found += descriptors(index)
            query = _next_page(answer)
            if not query:
                return found
            target = f"referrers/{digest}?{query}"
        return found

    # Requests --------------------------------------------------------------------------------------------------------

    def _at(self, target: str) -> tuple[Address, str]:
        return Address(self._scheme, self.place.server), f"/v2/{self.place.repository}/{target}"

    def _ask(
        self,
        method: str,
        target: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        accept: tuple[int, ...],
    ) -> Answer:
        """One request, again where it fails for what may pass."""
        return self._patiently(lambda: self._once(method, self._at(target), what, headers or {}, body, accept), what)

    def _patiently(self, work: Callable[[], _T], what: str) -> _T:
        self._settle(what)
        return patiently(self._patience, work, lambda error: self.failure(error, what), self.cancelled)

    def failure(self, error: Exception, what: str) -> RegistryError:
        """What to say of the network. Raises what trying again won't mend."""
        self._check_cancelled()
        if isinstance(error, OSError) and error.filename is not None:
            raise error  # of this machine's files
        if isinstance(error, OSError) and error.errno in _LOCAL:
            raise error
        reason = reason_of(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = "put its authority into /etc/containers/certs.d/HOST/ca.crt, or say --insecure"
            raise RegistryError("registry.tls", f"{what}: {self.place.host}: {reason}", hint=hint)
        if isinstance(error, socket.gaierror | ConnectionRefusedError):
            raise unreachable(what, self.place.host, reason)
        return unreachable(what, self.place.host, reason)

    def _settle(self, what: str) -> None:
        """Find out whether the registry speaks HTTPS, where plain HTTP is allowed."""
        if self._settled or not self.place.insecure:
            return

        def ask() -> None:
            for scheme in (HTTPS, HTTP):
                try:
                    self.transport.send("GET", Address(scheme, self.place.server), "/v2/", {}).close()
                except OSError as error:
                    if scheme == HTTP or isinstance(error, TimeoutError):
                        raise
                    continue
                self._scheme = scheme
                return

        patiently(self._patience, ask, lambda error: self.failure(error, what), self.cancelled)
        self._settled = True

    def _once(
        self,
        method: str,
        at: tuple[Address, str],
        what: str,
        headers: Mapping[str, str],
        body: Body | bytes | None,
        accept: tuple[int, ...],
    ) -> Answer:
        """One request with the authorization that it needs, after redirects. Other statuses than `accept` raise."""
        self._check_cancelled()
        address, target = at
        own = address.host == self.place.server
        for left in reversed(range(_MOST_REDIRECTS)):
            known = self._tokens.header(self._scope) if own else ""
            answer = self._send(method, address, target, headers, body, known)
            if answer.status == _UNAUTHORIZED and own:
                challenge = parse_challenge(answer.headers.get("www-authenticate", ""))
                refused = answer.whole()
                header = self._tokens.answer(challenge, self._scope, known, address)
                if not header:
                    raise refusal(what, self.place.host, _UNAUTHORIZED, refused)
                answer = self._send(method, address, target, headers, body, header)
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD") or not left:
                return self._judged(answer, what, address, accept)
            answer.close()
            address, target = absolute(address, target, answer.headers.get("location", ""))
            own = own and address.host == self.place.server
        raise AssertionError("unreachable")

    @staticmethod
    def _judged(answer: Answer, what: str, address: Address, accept: tuple[int, ...]) -> Answer:
        if answer.status in accept:
            return answer
        error = refusal(what, address.host, answer.status, answer.whole())
        if is_passing(answer.status):
            raise PassingError(error, wait_of(answer.headers.get("retry-after", "")))
        raise error

    def _send(
        self,
        method: str,
        address: Address,
        target: str,
        headers: Mapping[str, str],
        body: Body | bytes | None,
        authorization: str,
    ) -> Answer:
        more = {"Authorization": authorization} if authorization else {}
        return self.transport.send(method, address, target, {**headers, **more}, body)

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise BoxwrightError("build.cancelled", "cancelled")


def fallback_tag(digest: Digest) -> str:
    """Under which tag an index of referrers stands (distribution-spec, "Referrers Tag Schema")."""
    return digest.replace(":", "-")


def descriptors(index: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The descriptors of an index that can be followed."""
    found = index.get("manifests")
    items = found if isinstance(found, list) else []
    return [it for it in items if isinstance(it, dict) and _DIGEST.fullmatch(str(it.get("digest")))]


def blobs_of(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The descriptors of a manifest's configuration and layers, but those that stand elsewhere ("foreign")."""
    layers = manifest.get("layers")
    for item in (manifest.get("config"), *(layers if isinstance(layers, list) else ())):
        if isinstance(item, dict) and _DIGEST.fullmatch(str(item.get("digest"))) and not item.get("urls"):
            yield item


def _next_page(answer: Answer) -> str:
    """The query of the page that follows, empty at the last one (RFC 8288)."""
    following = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
    return urllib.parse.urlsplit(following[1]).query if following else ""


def _json(data: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
