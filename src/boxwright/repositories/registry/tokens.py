"""How a registry is told who asks: basic authentication, or a token from the server that it names.

docker/distribution, "Token Authentication Specification" and "Token Authentication Implementation"; RFC 7617, 9110.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from boxwright.repositories.registry.credentials import Login
from boxwright.repositories.registry.failures import RegistryError, malformed, refusal
from boxwright.repositories.registry.retries import PassingError, is_passing, wait_of
from boxwright.repositories.registry.transport import HTTP, HTTPS, Address, Transport, is_loopback

_FIELD = re.compile(r'(\w+)="([^"]*)"|(\w+)=([^\s,"]+)')
_ONE = re.compile(r"\b(bearer|basic)\b((?:[^\"]|\"[^\"]*\")*?)(?=,\s*(?:bearer|basic)\b|$)", re.IGNORECASE)
_HEADER_MOST = 4096
_OK = 200
_CLIENT = "boxwright"


class Challenge(NamedTuple):
    """What a registry wants: `scheme` in small letters, and its parameters."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(header: str) -> Challenge:
    """A WWW-Authenticate header (RFC 9110, 11.6.1); of several, bearer comes before basic."""
    found = {}
    for scheme, rest in _ONE.findall(header[:_HEADER_MOST]):
        fields = {a or c: b or d for a, b, c, d in _FIELD.findall(rest)}
        found[scheme.lower()] = Challenge(
            scheme.lower(), fields.get("realm", ""), fields.get("service", ""), fields.get("scope", "")
        )
    return found.get("bearer") or found.get("basic") or Challenge("")


class Tokens:
    """The authorization of requests to one host; a token is asked for once for each scope."""

    def __init__(self, transport: Transport, host: str, login: Callable[[], Login | None]) -> None:
        self._transport = transport
        self._host = host
        self._login = login
        self._known: dict[str, str] = {}
        self._asked: dict[str, Login | None] = {}
        self._guard = threading.Lock()

    def header(self, scope: str) -> str:
        """What is known for a scope; empty where nothing is."""
        with self._guard:
            return self._known.get(scope) or self._known.get("", "")

    def answer(self, challenge: Challenge, scope: str, refused: str, address: Address) -> str:
        """The header that answers a challenge; `refused` is the one that was not taken. Empty where there is none."""
        with self._guard:
            known = self._known.get(scope) or self._known.get("", "")
            if known and known != refused:
                return known  # another thread was here first
            login = self._asked["login"] if "login" in self._asked else self._asked.setdefault("login", self._login())
            if challenge.scheme == "basic":
                header = _basic(login) if login and login.user else ""
                if header and header != refused:
                    self._known[""] = header
                    return header
                return ""
            if challenge.scheme != "bearer":
                return ""
            # The registry's own words may ask for less than what follows: a push wants to pull too.
            wanted = " ".join(dict.fromkeys(filter(None, (scope, challenge.scope if not scope else ""))))
            header = f"Bearer {self._fetch(challenge, wanted, login, address)}"
            if header == refused:
                return ""
            self._known[scope] = header
            return header

    def _fetch(self, challenge: Challenge, scope: str, login: Login | None, address: Address) -> str:
        parts = urllib.parse.urlsplit(challenge.realm)
        what = f"a token for {self._host} could not be fetched"
        if parts.scheme not in (HTTP, HTTPS) or not parts.hostname:
            raise malformed(what, self._host, f"the realm {challenge.realm!r} is no address")
        if parts.scheme == HTTP and address.scheme == HTTPS and login and not is_loopback(parts.netloc):
            raise malformed(what, self._host, "it wants the password over plain HTTP")
        realm = Address(parts.scheme, parts.netloc.rpartition("@")[2])
        fields = {"service": challenge.service, **({"scope": scope} if scope else {})}
        headers = {"Accept": "application/json"}
        if login and login.token:
            form = {**fields, "grant_type": "refresh_token", "refresh_token": login.token, "client_id": _CLIENT}
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urllib.parse.urlencode(form).encode()
            reply = self._transport.send("POST", realm, parts.path or "/", headers, data)
        else:
            if login:
                headers["Authorization"] = _basic(login)
            query = "&".join(filter(None, (parts.query, urllib.parse.urlencode(fields))))
            reply = self._transport.send("GET", realm, f"{parts.path or '/'}?{query}", headers)
        body = reply.whole()
        if reply.status != _OK:
            error = refusal(what, realm.host, reply.status, body)
            if is_passing(reply.status):
                raise PassingError(error, wait_of(reply.headers.get("retry-after", "")))
            raise error
        return _token(what, realm.host, body)


def _token(what: str, host: str, body: bytes) -> str:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer["access_token"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise malformed(what, host, "the answer holds no token") from error
    if not isinstance(token, str) or not token.isprintable():
        raise RegistryError("registry.bad-answer", f"{what}: the answer holds no token")
    return token


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")
