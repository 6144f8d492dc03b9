"""What registries and their configuration files say: challenges, routes, credentials, refusals."""

from __future__ import annotations

import base64
import json
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.repositories.registry.credentials import Login, login_for
from boxwright.repositories.registry.failures import RegistryError, refusal
from boxwright.repositories.registry.hosts import Place, read_rules, route_to
from boxwright.repositories.registry.retries import wait_of
from boxwright.repositories.registry.tokens import Challenge, parse_challenge
from boxwright.repositories.registry.transport import Address, absolute, is_loopback


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.x/token",service="reg",scope="repository:a/b:pull,push"',
            Challenge("bearer", "https://auth.x/token", "reg", "repository:a/b:pull,push"),
        ),
        ('Basic realm="Registry Realm"', Challenge("basic", "Registry Realm")),
        ('basic realm=plain, Bearer realm="https://a/b"', Challenge("bearer", "https://a/b")),
        ('BEARER realm="https://a/b?c=d"', Challenge("bearer", "https://a/b?c=d")),
        ("Negotiate", Challenge("")),
        ("", Challenge("")),
        ('Bearer realm="never closed', Challenge("")),
    ],
)
def test_challenges(header: str, found: Challenge) -> None:
    assert parse_challenge(header) == found


@given(st.text())
def test_any_challenge_is_read_in_time(header: str) -> None:
    parse_challenge(header)
    started = time.monotonic()
    parse_challenge("bearer " * 9000 + '"' * 1000)
    assert time.monotonic() - started < 5


CONF = """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "a.example"
insecure = true
[[registry]]
prefix = "a.example/deep"
location = "b.example:5000/other"
[[registry.mirror]]
location = "m.example/one"
[[registry.mirror]]
location = "m.example/two"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "*.wild.example"
[[registry.mirror]]
location = "m.example"
insecure = true
[[registry]]
prefix = "a.example/deep/no"
blocked = true
"""


def test_routes(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text(CONF)
    rules = read_rules([str(tmp_path / "one.conf")])
    assert route_to("other.example", "x/y", rules).home == Place("other.example", "x/y", insecure=False)
    assert route_to("a.example", "x", rules).home == Place("a.example", "x", insecure=True)
    assert route_to("a.example.org", "x", rules).home.insecure is False
    route = route_to("a.example", "deep/x", rules)
    assert route.home == Place("b.example:5000", "other/x", insecure=False)
    assert route.mirrors == (Place("m.example", "one/x", insecure=False),)
    assert route.by_digest == (Place("m.example", "two/x", insecure=False),)
    assert route_to("a.example", "deeper", rules).home == Place("a.example", "deeper", insecure=True)
    assert route_to("c.wild.example", "x", rules).mirrors[0].insecure
    assert route_to("127.0.0.1:5000", "x", ()).home.insecure
    assert route_to("x.example", "x", (), ["*"]).home.insecure
    assert route_to("docker.io", "library/x", ()).home.server == "registry-1.docker.io"
    with pytest.raises(RegistryError) as raised:
        route_to("a.example", "deep/no/x", rules)
    assert raised.value.code == "registry.blocked"


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_the_nearest_entry_counts(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    auths = {
        "r.example": auth("host:h"),
        "r.example/team": auth("team:t"),
        "r.example/team/app": auth("app:a:b"),
        "https://index.docker.io/v1/": auth("docker:d"),
        "token.example": {"auth": auth("<token>:")["auth"], "identitytoken": "secret"},
        "empty.example": {},
    }
    path.write_text(json.dumps({"auths": auths}))
    environment = {"REGISTRY_AUTH_FILE": str(path)}
    for host, repository, found in (
        ("r.example", "x", Login("host", "h")),
        ("r.example", "team/other", Login("team", "t")),
        ("r.example", "team/app", Login("app", "a:b")),
        ("r.example", "teams", Login("host", "h")),
        ("docker.io", "library/x", Login("docker", "d")),
        ("token.example", "x", Login("<token>", "", "secret")),
        ("empty.example", "x", None),
        ("r.example.org", "x", None),
    ):
        assert login_for(host, repository, environment, 0) == found, (host, repository)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"", "registry.unauthorized"),
        (403, b'{"errors":[{"code":"DENIED","message":"no"}]}', "registry.denied"),
        (404, b"<html>", "registry.not-found"),
        (413, b"", "registry.too-large"),
        (429, b'{"errors":null}', "registry.too-many-requests"),
        (500, b'{"errors":[{"detail":{"Err":28,"text":"no space left on device"}}]}', "registry.no-space"),
        (500, b"[]", "registry.server-error"),
        (507, b"", "registry.no-space"),
        (400, b'{"errors":[1]}', "registry.refused"),
        (418, b"\x1b[31m\xff", "registry.refused"),
    ],
)
def test_refusals(status: int, body: bytes, code: str) -> None:
    error = refusal("it could not be done", "r.example", status, body)
    assert error.code == code
    assert error.message.isprintable()


def test_where_a_location_leads() -> None:
    at = Address("https", "r.example")
    assert absolute(at, "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/1?s=2") == (at, "/v2/a/blobs/uploads/1?s=2")
    assert absolute(at, "/v2/a", "https://cdn.example/x y") == (Address("https", "cdn.example"), "/x%20y")
    for location in ("http://r.example/x", "file:///etc/passwd", "ftp://x/y"):
        with pytest.raises(RegistryError):
            absolute(at, "/v2/a", location)


def test_small_things() -> None:
    assert wait_of("7") == 7
    assert 50 < wait_of(formatdate(time.time() + 60, usegmt=True)) < 61
    assert wait_of("soon") == wait_of("") == 0
    assert [is_loopback(host) for host in ("localhost:1", "127.9.0.1", "[::1]:5", "127.example", "x.example")] == [
        True,
        True,
        True,
        False,
        False,
    ]
