"""Files from a mirror: HTTP, HTTPS or a local directory, into a file, never more than was said."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from boxwright.errors import BoxwrightError, FetchError

_SCHEME = re.compile(r"(https?|file)://")
_TIMEOUT = 30.0
_ATTEMPTS = 3
_PAUSE = 0.5
_CHUNK = 256 << 10
_HINT = "can this machine reach it, and does it have that branch? Another one: --mirror URL"


def download(url: str, path: str, limit: int, cancelled: Callable[[], bool]) -> None:
    """Write what is at `url` to the file `path`, at most `limit` bytes. Raises FetchError `base.fetch`.

    What is not there is not asked for again; other failures are, twice.
    """
    if not _SCHEME.match(url):
        raise FetchError("base.fetch", f"{url} is no address of a mirror", hint="http://, https:// or file://")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _attempt(url, path, limit, cancelled)
        except (OSError, http.client.HTTPException) as error:
            final = False
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                final = error.code < 500
            if final or attempt == _ATTEMPTS:
                raise FetchError("base.fetch", f"{url} could not be fetched: {_reason(error)}", hint=_HINT) from error
            time.sleep(_PAUSE)
        else:
            return


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _attempt(url: str, path: str, limit: int, cancelled: Callable[[], bool]) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "boxwright"})  # noqa: S310 - the scheme was checked
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, open(path, "wb") as file:  # noqa: S310
        expected = answer.headers.get("Content-Length")
        size = 0
        while data := answer.read(_CHUNK):
            size += len(data)
            if size > limit:
                raise FetchError("base.changed", f"{url} is larger than the {limit} bytes that it should have")
            if cancelled():
                raise BoxwrightError("build.cancelled", "cancelled")
            file.write(data)
        if expected is not None and expected.isdigit() and size < int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - size)
