"""The entries ``type: reapi`` of `repositories:`, as their schema has them, and what they mean."""

from __future__ import annotations

import os
import platform as machine
from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from boxwright.app.configurationfile import repository_nodes
from boxwright.errors import DefinitionError
from boxwright.model.span import Span
from boxwright.repositories.reapi.settings import Settings, Tls

TYPE = "reapi"
SCHEMES = {"grpc": False, "http": False, "grpcs": True, "https": True}
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ISA = {"x86_64": "x86-64", "aarch64": "aarch64"}
"""The names of the platform lexicon (remote-apis, platform.md) by those of uname(2)."""
USER = {"unixUID": "1000", "unixGID": "1000"}
"""As whom an action runs here too (the names are those that BuildStream and buildbox use)."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class TlsSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Paths of PEM files, counted from the configuration's directory."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


class RemoteSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="kebab", tag=TYPE, tag_field="type"):
    """A Remote Execution API server (docs/remote.md)."""

    cas: str
    name: str = ""
    action_cache: str = ""
    execution: str | tuple[str, ...] = ()
    instance: str = ""
    tls: TlsSpec = TlsSpec()
    token_file: str = ""
    token_variable: str = ""
    properties: dict[str, str] = {}
    jobs: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    time_limit: Seconds = 20.0
    action_limit: Seconds = 6 * 3600.0
    push: bool = True
    read_only: bool = True


def remotes_of(files: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, ...]:
    """The servers that these files name, in the order in which they are asked."""
    found: dict[tuple[str, str], Settings] = {}
    for node in repository_nodes(files):
        if node.kind == TYPE:
            settings = remote_settings(node.convert(RemoteSpec), node.where, environment)
            found.setdefault((settings.cas, settings.instance), settings)
    return tuple(found.values())


def remote_settings(spec: RemoteSpec, where: Span, environment: Mapping[str, str]) -> Settings:
    """What an entry means. Raises DefinitionError with its place."""
    directory = os.path.dirname(where.file)
    execution = (spec.execution,) if isinstance(spec.execution, str) else spec.execution
    cache = spec.action_cache or spec.cas
    token = _token(spec, directory, where, environment)
    for url in (spec.cas, cache, *execution):
        _check(url, where, secret=bool(token))

    def path(name: str) -> str:
        return os.path.join(directory, os.path.expanduser(name)) if name else ""

    properties = {"OSFamily": "linux", "ISA": ISA.get(machine.machine(), machine.machine()), **USER}
    properties.update(spec.properties)
    return Settings(
        spec.name or spec.cas,
        spec.cas,
        cache,
        execution,
        spec.instance,
        Tls(path(spec.tls.ca), path(spec.tls.certificate), path(spec.tls.key)),
        token,
        tuple(sorted((name, value) for name, value in properties.items() if value)),
        spec.jobs,
        spec.time_limit,
        spec.action_limit,
        spec.push,
        spec.read_only,
    )


def _check(url: str, where: Span, *, secret: bool) -> None:
    """An address that can be used; a token goes to others only over TLS."""
    hint = "grpc://HOST:PORT, or grpcs://HOST:PORT with TLS"
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in SCHEMES or not parts.hostname or parts.port == 0 or parts.path not in ("", "/")
    except ValueError:
        raise DefinitionError("config.address", f"{url!r} is no address", hint=hint, where=where) from None
    if wrong or parts.query or parts.fragment or parts.username:
        raise DefinitionError("config.address", f"{url!r} is no address of a server", hint=hint, where=where)
    if secret and not SCHEMES[parts.scheme] and parts.hostname not in LOOPBACK:
        text = f"the token would go to {url} in clear text"
        raise DefinitionError("config.token-in-clear", text, hint="use grpcs://", where=where)


def _token(spec: RemoteSpec, directory: str, where: Span, environment: Mapping[str, str]) -> str:
    if spec.token_file and spec.token_variable:
        raise DefinitionError("config.wrong", "token-file and token-variable exclude each other", where=where)
    if spec.token_variable:
        token = environment.get(spec.token_variable, "").strip()
        if not token:
            raise DefinitionError("config.token", f"the variable {spec.token_variable} is not set", where=where)
    elif spec.token_file:
        path = os.path.join(directory, os.path.expanduser(spec.token_file))
        try:
            with open(path, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError("config.token", f"{path} can't be read: {error}", where=where) from error
    else:
        return ""
    if not token.isprintable() or not token.isascii() or " " in token:
        raise DefinitionError("config.token", "a token is one line of printable ASCII", where=where)
    return token
