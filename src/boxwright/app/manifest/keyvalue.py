"""Key/value data for templates: a YAML file, a Consul-compatible HTTP API, or etcd version 3.

Consul: developer.hashicorp.com/consul/api-docs/kv, "Read Key" with `recurse`. etcd: etcd.io/docs, "gRPC gateway".
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from boxwright.errors import FetchError, UsageError
from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.schema import KeyValue
from boxwright.frontends.package.document import parse_value, plain
from boxwright.model.span import Span

SECONDS = 10
LARGEST = 32 << 20


def read_data(source: KeyValue, near: str, where: Span, environment: Mapping[str, str]) -> Mapping[str, object]:
    """The data as nested mappings, whatever it comes from. Raises `kv.unreachable`, `kv.answer`, `kv.conflict`."""
    if source.yaml:
        return _from_yaml(os.path.join(os.path.dirname(near), source.yaml), source.prefix, where)
    token = ""
    if source.token_env:
        token = environment.get(source.token_env, "")
        if not token:
            hint = "`token-env` names the variable that holds the token"
            raise UsageError("kv.token", f"the environment has no {source.token_env}", hint=hint)
    pairs = _from_consul(source, token, where) if source.consul else _from_etcd(source, token, where)
    return nested(pairs, where)


def nested(pairs: Iterable[tuple[str, str]], where: Span) -> dict[str, object]:
    """``a/b: x`` as ``{a: {b: x}}``. Raises `kv.conflict` where a key is a value and has others below it."""
    found: dict[str, object] = {}
    for key, value in sorted(pairs):
        *above, name = key.strip("/").split("/")
        place = found
        for step in above:
            below = place.setdefault(step, {})
            if not isinstance(below, dict):
                raise FetchError("kv.conflict", f"{key}: {step} is a value and has keys below it", where=where)
            place = below
        if name and not key.endswith("/"):
            if isinstance(place.get(name), dict):
                raise FetchError("kv.conflict", f"{key} is a value and has keys below it", where=where)
            place[name] = value
    return found


def _from_yaml(path: str, prefix: str, where: Span) -> Mapping[str, object]:
    from boxwright.app.definitions import read_definition

    value = parse_value(read_definition(path), path)
    data = {} if value is None else plain(value)
    for step in filter(None, prefix.split("/")):
        data = data.get(step, {}) if isinstance(data, dict) else {}
    if not isinstance(data, dict):
        raise wrong("kv", f"{path} holds no mapping", where)
    return data


def _from_consul(source: KeyValue, token: str, where: Span) -> list[tuple[str, str]]:
    prefix = source.prefix.strip("/")
    address = f"{source.consul.rstrip('/')}/v1/kv/{quote(prefix)}{'/' if prefix else ''}?recurse=true"
    answer = _ask(address, None, {"X-Consul-Token": token} if token else {}, where)
    if answer is None:  # nothing below the prefix
        return []
    try:
        if not isinstance(answer, list):
            raise TypeError(answer)  # noqa: TRY301 - said like any other wrong answer
        return [(_below(item["Key"], prefix), _decoded(item["Value"])) for item in answer]
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError("kv.answer", f"{source.consul} gave no list of keys and values", where=where) from error


def _from_etcd(source: KeyValue, token: str, where: Span) -> list[tuple[str, str]]:
    prefix = source.prefix.strip("/")
    start = f"{prefix}/".encode() if prefix else b"\0"
    end = start[:-1] + bytes([start[-1] + 1]) if prefix else b"\0"
    body = {"key": base64.b64encode(start).decode(), "range_end": base64.b64encode(end).decode()}
    headers = {"Authorization": token} if token else {}
    answer = _ask(f"{source.etcd.rstrip('/')}/v3/kv/range", json.dumps(body).encode(), headers, where)
    try:
        found = answer.get("kvs", ()) if isinstance(answer, dict) else ()
        return [(_below(_decoded(item["key"]), prefix), _decoded(item.get("value", ""))) for item in found]
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError("kv.answer", f"{source.etcd} gave no list of keys and values", where=where) from error


def _below(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}/") if prefix else key


def _decoded(text: str | None) -> str:
    return base64.b64decode(text or "", validate=True).decode("utf-8")


def _ask(address: str, body: bytes | None, headers: Mapping[str, str], where: Span) -> object:
    """The server's answer; None where it has nothing there."""
    if not address.startswith(("http://", "https://")):
        hint = "http://HOST:PORT"
        raise FetchError("kv.unreachable", f"{address} is no address of a web server", hint=hint, where=where)
    request = urllib.request.Request(address, data=body, headers=dict(headers))  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - checked above
            data = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        hint = "see `token-env`" if error.code in (401, 403) else ""
        message = f"{address.partition('?')[0]} answers {error.code} {error.reason}"
        raise FetchError("kv.unreachable", message, hint=hint, where=where) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        message = f"{address.partition('?')[0]} can't be reached: {reason}"
        raise FetchError("kv.unreachable", message, where=where) from error
    if len(data) > LARGEST:
        raise FetchError("kv.answer", f"{address} gave more than {LARGEST >> 20} MiB", where=where)
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FetchError("kv.answer", f"{address.partition('?')[0]} gave no JSON", where=where) from error
    return found
