"""Any static web server as a place to read from (RFC 9110), by urllib3: kept connections, redirects, proxies, retries.

What is asked for never changes, so a cache in between (a CDN) may keep it for ever; only its "not found" must end some
time. A body that breaks off is asked for again from where it broke.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from boxwright import __version__
from boxwright.errors import FetchError
from boxwright.repositories.binary.place import AT_ONCE, MissingError, at_once, checked

if TYPE_CHECKING:
    import urllib3

PIECE = 1 << 18
ATTEMPTS = 3
PAUSE_SECONDS = 0.2
SLOWEST = 1000
"""Bytes a second below which a transfer is given up."""
GONE = frozenset({404, 410})
BUSY = (429, 500, 502, 503, 504)
OK, PARTIAL = 200, 206


class WebPlace:
    """Objects below an address. `time_limit` (seconds) is how long a server may say nothing.

    `authority` is a PEM file with the authorities that count, by default those of the system (or ``SSL_CERT_FILE``).
    """

    distant = True
    loose = False

    def __init__(self, address: str, time_limit: float, authority: str = "") -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError("repository.address", f"{address} is no address of a web server")
        self.where = address.rstrip("/")
        self._time_limit = time_limit
        self._authority = authority
        self._pool: urllib3.PoolManager | None = None

    def _opened(self) -> urllib3.PoolManager:
        if self._pool is None:
            import urllib3

            parts = urlsplit(self.where)
            proxies = urllib.request.getproxies()
            proxy = proxies.get(parts.scheme)
            if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
                proxy = None
            retries = urllib3.Retry(
                total=ATTEMPTS,
                connect=1,
                read=1,
                redirect=5,
                backoff_factor=PAUSE_SECONDS,
                status_forcelist=BUSY,
                raise_on_status=False,
                respect_retry_after_header=False,
            )
            timeout = urllib3.Timeout(connect=min(10.0, self._time_limit), read=self._time_limit)
            headers = {"User-Agent": f"boxwright/{__version__}", "Accept-Encoding": "identity"}
            common: dict[str, Any] = {
                "headers": headers,
                "timeout": timeout,
                "retries": retries,
                "maxsize": AT_ONCE,
                "ca_certs": self._authority or None,
            }
            self._pool = urllib3.ProxyManager(proxy, **common) if proxy else urllib3.PoolManager(**common)
        return self._pool

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a connection that breaks is made again where it broke."""
        import urllib3

        began, position, failures = time.monotonic(), start, 0
        end = None if size is None else start + size
        while end is None or position < end:
            before = position
            try:
                for piece in self._body(name, position, end):
                    position += len(piece)
                    if time.monotonic() - began > self._time_limit + (position - start) / SLOWEST:
                        raise FetchError("repository.slow", f"{self.where}/{name} comes too slowly")
                    yield piece
            except urllib3.exceptions.HTTPError as error:
                failures = 1 if position > before else failures + 1
                again = isinstance(error, urllib3.exceptions.ProtocolError)  # all else was tried often enough
                if failures >= ATTEMPTS or not again:
                    raise self._broken(name, error) from error
                time.sleep(PAUSE_SECONDS * failures)
            else:
                return

    def _body(self, name: str, position: int, end: int | None) -> Iterator[bytes]:
        """The bytes from `position` to `end` of one answer."""
        headers = {}
        if position or end is not None:
            headers["Range"] = f"bytes={position}-{'' if end is None else end - 1}"
        response = self._ask("GET", name, headers)
        whole = False
        try:
            if response.status == PARTIAL:
                _check_range(response.headers, position, f"{self.where}/{name}")
            skip = position if response.status == OK else 0
            left = None if end is None else end - position
            while data := response.read1(PIECE, decode_content=False):
                piece = data[skip : None if left is None else skip + left]
                skip = max(0, skip - len(data))
                if piece:
                    left = None if left is None else left - len(piece)
                    yield piece
                if left == 0 and response.status == OK:
                    return  # the server sends more than was asked for
            whole = True
        finally:
            if not whole:
                response.close()
            response.release_conn()

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there, a request for each."""
        import urllib3

        def is_there(name: str) -> bool:
            try:
                response = self._ask("HEAD", name, {})
            except MissingError:
                return False
            except urllib3.exceptions.HTTPError as error:
                raise self._broken(name, error) from error
            response.drain_conn()
            return True

        asked = list(names)
        return {name for name, there in zip(asked, at_once(is_there, asked), strict=True) if there}

    def _ask(self, method: str, name: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        pool = self._opened()
        response = pool.request(
            method, f"{self.where}/{checked(name)}", headers={**pool.headers, **headers}, preload_content=False
        )
        if response.status in (OK, PARTIAL):
            return response
        response.drain_conn()
        if response.status in GONE:
            raise MissingError(self.where, name)
        message = f"{self.where}/{name}: the server answers {response.status} {response.reason}"
        raise FetchError("repository.status", message)

    def _broken(self, name: str, error: Exception) -> FetchError:
        import urllib3

        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.SSLError | FileNotFoundError):
            hint = "`ca:` names a file with the authority that vouches for it, as SSL_CERT_FILE does"
            return FetchError("repository.tls", f"{self.where} can't be trusted: {reason}", hint=hint)
        refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
        if isinstance(reason, urllib3.exceptions.TimeoutError) and not refused:
            text = f"{self.where} says nothing for {self._time_limit:.0f} s"
            return FetchError(
                "repository.stalled", text, hint="is the server well? `time-limit:` says how long to wait"
            )
        return FetchError(
            "repository.unreachable", f"{self.where}/{name}: {reason}", hint="can this machine reach the server?"
        )

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None


def _check_range(headers: Mapping[str, str], position: int, where: str) -> None:
    said = headers.get("Content-Range", "")
    if not said.startswith(f"bytes {position}-"):
        raise FetchError("repository.range", f"{where}: asked for what is at {position}, the server sends {said!r}")
