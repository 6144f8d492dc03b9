"""Sources of packages from the network, each kept only when its bytes are those that were asked for."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from boxwright.errors import FetchError
from boxwright.model.giturl import redacted

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60.0
SCHEMES = ("http://", "https://", "ftp://")


def download(url: str, destination: str, timeout: float = TIMEOUT_SECONDS) -> str:
    """Fetch `url` to a new file; returns the hex SHA-256 of its bytes. Raises FetchError `source.fetch`.

    `timeout` is how many seconds the server may say nothing. What ends before its announced length is no answer.
    """
    if not url.startswith(SCHEMES):
        raise FetchError("source.scheme", f"{redacted(url)}: only http, https and ftp are fetched")
    digest = hashlib.sha256()
    size = 0
    with fetching(url), opened(url, timeout) as answer, open(destination, "wb") as file:
        while data := answer.read(CHUNK):
            digest.update(data)
            size += len(data)
            file.write(data)
        announced = answer.headers.get("Content-Length") or ""
    if announced.isdecimal() and int(announced) != size:
        raise FetchError("source.fetch", f"{redacted(url)} can't be fetched: {size} of {announced} bytes came")
    return digest.hexdigest()


def opened(url: str, timeout: float) -> http.client.HTTPResponse:
    """The answer to a request for `url`. User and password go to that server alone."""
    from boxwright.sources.http import authorized

    place, authorization = (url, "") if url.startswith("ftp:") else authorized(url)
    request = urllib.request.Request(place)  # noqa: S310 - the caller looks at the scheme
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    return cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=timeout))  # noqa: S310


@contextmanager
def fetching(url: str) -> Iterator[None]:
    """What can go wrong on the way becomes a FetchError `source.fetch`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError("source.fetch", f"{redacted(url)} can't be fetched: {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError("source.fetch", f"{redacted(url)} can't be fetched: {redacted(str(reason))}") from error


def first_that_works(
    origins: Sequence[str], wanted: str, fetch: Callable[[str], str], output: Callable[[bytes], None]
) -> None:
    """Fetch from the first origin that has the `wanted` bytes. Raises FetchError that says what each of them did."""
    failures: list[str] = []
    mismatch = False
    for origin in origins:
        output(f"fetching {redacted(origin)}\n".encode())
        try:
            found = fetch(origin)
        except FetchError as error:
            failures.append(error.message)
            continue
        if found == wanted:
            return
        mismatch = True
        failures.append(f"{redacted(origin)} has sha256 {found}")
    code = "source.checksum" if mismatch else "source.fetch"
    said = "\n  ".join(failures) or "there is no place to fetch it from"
    hint = (
        f"sha256 {wanted} is what the definition says"
        if mismatch
        else "is the network up? add a mirror under `mirrors`"
    )
    raise FetchError(code, f"a source can't be had:\n  {said}", hint=hint)
