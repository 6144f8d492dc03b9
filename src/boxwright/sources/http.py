"""Files from web servers (RFC 9110): asked for only where they changed, hashed as they come.

The standard library's client: a build asks for a few files one after the other, and importing a larger client costs
more time than the requests.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import IO, NamedTuple, cast

from boxwright import __version__
from boxwright.errors import BoxwrightError, FetchError
from boxwright.files import CHUNK, write_all
from boxwright.model.digest import Digest, digest_from_hex
from boxwright.model.giturl import redacted

MOST_REDIRECTS = 10
TIMEOUT_SECONDS = 60.0
_NOT_MODIFIED = 304
_HINTS = {401: "the server wants a password", 403: "the server refuses it", 404: "is the address right?"}


class Validators(NamedTuple):
    """By what a server knows whether a file changed (RFC 9110, section 8.8), as it sent them."""

    etag: str = ""
    modified: str = ""


class Download(NamedTuple):
    """A file as it came. `mtime` is its Last-Modified in seconds since 1970, 0 where the server said none."""

    digest: Digest
    size: int
    mtime: int
    validators: Validators


def download(
    url: str, target: str, *, known: Validators | None = None, cancelled: Callable[[], bool]
) -> Download | None:
    """Write what is at `url` to the new file `target`; None where it is still what `known` says.

    Raises FetchError `fetch.*` for whatever goes wrong; nothing is left at `target` then.
    """
    try:
        response = _open(url, known)
        if response is None:
            return None
        with closing(response):
            validators = Validators(response.headers.get("ETag") or "", response.headers.get("Last-Modified") or "")
            if known and known.etag and known.etag == validators.etag:
                return None
            return _save(response, url, target, validators, cancelled)
    except urllib.error.HTTPError as error:
        error.close()
        message = f"{redacted(url)} could not be fetched: the server answers {error.code} {error.reason}"
        raise FetchError("fetch.status", message, hint=_HINTS.get(error.code, "")) from error
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise FetchError("fetch.url", f"{redacted(url)} is no address that can be fetched: {error}") from error
    except http.client.HTTPException as error:
        raise _broken(url, str(error) or type(error).__name__) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        message = f"{redacted(url)} could not be fetched: {getattr(reason, 'strerror', None) or reason}"
        raise FetchError("fetch.unreachable", message, hint="can this machine reach the server?") from error


def _broken(url: str, what: str) -> FetchError:
    return FetchError("fetch.broken", f"{redacted(url)} came only in part: {what}", hint="build again")


def _open(url: str, known: Validators | None) -> http.client.HTTPResponse | None:
    """The answer, after redirects; None where the server says that nothing changed."""
    place, authorization = authorized(url)
    request = urllib.request.Request(place, headers={"User-Agent": f"boxwright/{__version__}"})  # noqa: S310 - only the handlers below
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    if known and known.etag:
        request.add_header("If-None-Match", known.etag)
    elif known and known.modified:
        request.add_header("If-Modified-Since", known.modified)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        return cast("http.client.HTTPResponse", opener.open(request, timeout=TIMEOUT_SECONDS))
    except urllib.error.HTTPError as error:
        if error.code == _NOT_MODIFIED and known:
            error.close()
            return None
        raise


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web servers only."""

    max_redirections = MOST_REDIRECTS
    max_repeats = MOST_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The next request. Raises where it leads to something that is no web server."""
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            shown = redacted(newurl)
            fp.close()
            raise FetchError("fetch.redirect", f"{redacted(req.full_url)} redirects to {shown}, which is not fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def authorized(url: str) -> tuple[str, str]:
    """The address without user and password, and what the header `Authorization` says of them (RFC 7617)."""
    parts = urllib.parse.urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._[]")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    plain = urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))
    if not at:
        return plain, ""
    return plain, "Basic " + base64.b64encode(urllib.parse.unquote_to_bytes(userinfo)).decode("ascii")


def _save(
    response: http.client.HTTPResponse, url: str, target: str, validators: Validators, cancelled: Callable[[], bool]
) -> Download:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        digest, size = _pump(response, descriptor, cancelled)
        _check_size(response, url, size)
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(descriptor)
    return Download(digest_from_hex(digest), size, _seconds(validators.modified), validators)


def _pump(response: http.client.HTTPResponse, descriptor: int, cancelled: Callable[[], bool]) -> tuple[str, int]:
    """Write the body; returns its hex SHA-256 and its size."""
    digest = hashlib.sha256()
    size = 0
    while data := response.read1(CHUNK):
        digest.update(data)
        size += len(data)
        write_all(descriptor, data)
        if cancelled():
            raise BoxwrightError("build.cancelled", "cancelled")
    return digest.hexdigest(), size


def _check_size(response: http.client.HTTPResponse, url: str, size: int) -> None:
    """A connection that ends early looks like the end of the body to the library."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) != size:
        raise _broken(url, f"{size} of {announced} bytes")


def _seconds(date: str) -> int:
    try:
        return max(0, int(parsedate_to_datetime(date).timestamp())) if date else 0
    except (ValueError, TypeError, OverflowError):
        return 0
