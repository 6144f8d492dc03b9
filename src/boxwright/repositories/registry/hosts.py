"""Where a registry's name leads: other locations, mirrors, plain HTTP (containers-registries.conf(5), version 2)."""

from __future__ import annotations

import glob
import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from boxwright.repositories.registry.failures import RegistryError
from boxwright.repositories.registry.transport import is_loopback

DOCKER = "docker.io"
_DOCKER_SERVER = "registry-1.docker.io"


class Place(NamedTuple):
    """A server and the repository there. `insecure`: plain HTTP, and certificates that nobody vouches for, will do."""

    host: str
    repository: str
    insecure: bool

    @property
    def server(self) -> str:
        """The server's own name: Docker's differs from the one in names."""
        return _DOCKER_SERVER if self.host == DOCKER else self.host


class Route(NamedTuple):
    """Where to pull from, in order (mirrors first), and where to push to (`home`).

    The mirrors in `by_digest` are not asked for tags.
    """

    home: Place
    mirrors: tuple[Place, ...] = ()
    by_digest: tuple[Place, ...] = ()


class Rule(NamedTuple):
    """A ``[[registry]]`` of the configuration."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[tuple[str, bool, str], ...]


def configuration_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The files that count; of those that speak of one prefix, a later one holds."""
    own = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    given = environment.get("CONTAINERS_REGISTRIES_CONF") or environment.get("REGISTRIES_CONFIG_PATH")
    mine, system = f"{own}/containers/registries.conf", "/etc/containers/registries.conf"
    main = given or (mine if os.path.isfile(mine) else system)
    parts = [main]
    for directory in () if given else (f"{system}.d", f"{mine}.d"):
        parts += sorted(glob.glob(f"{glob.escape(directory)}/*.conf"))
    return tuple(path for path in parts if os.path.isfile(path))


def read_rules(files: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of the files. Raises RegistryError `registry.config`."""
    rules: dict[str, Rule] = {}
    for path in files:
        try:
            with open(path, "rb") as file:
                content = tomllib.load(file)
            for entry in content.get("registry", ()):
                rule = _rule(entry)
                rules[rule.prefix] = rule
        except OSError as error:
            raise RegistryError("registry.config", f"{path} can't be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError) as error:
            raise RegistryError("registry.config", f"{path} can't be read: {error}") from error
    return tuple(rules.values())


def _rule(entry: Mapping[str, Any]) -> Rule:
    location = str(entry.get("location", ""))
    mirrors = tuple(
        (str(it["location"]), bool(it.get("insecure")), str(it.get("pull-from-mirror", "all")))
        for it in entry.get("mirror", ())
    )
    only = bool(entry.get("mirror-by-digest-only"))
    if only:
        mirrors = tuple((where, insecure, "digest-only") for where, insecure, _ in mirrors)
    prefix = str(entry.get("prefix") or location)
    return Rule(prefix, location, bool(entry.get("insecure")), bool(entry.get("blocked")), mirrors)


def route_to(host: str, repository: str, rules: Iterable[Rule], insecure: Iterable[str] = ()) -> Route:
    """Where a repository is. `insecure` are hosts that the user allowed so. Raises RegistryError `registry.blocked`."""
    allowed = frozenset(insecure)
    name = f"{host}/{repository}"
    fitting = [(length, rule) for rule in rules if (length := _fit(rule.prefix, host, name))]
    if not fitting:
        return Route(_place(name, allowed, insecure=False))
    rule = max(fitting, key=lambda it: it[0])[1]
    if rule.blocked:
        raise RegistryError("registry.blocked", f"{name} is blocked", hint="by `blocked` in a registries.conf")
    rest = name if rule.prefix.startswith("*.") else name[len(rule.prefix) :]
    home = _place(rule.location + rest if rule.location else name, allowed, insecure=rule.insecure)
    mirrors = [(_place(where + rest, allowed, insecure=plain), kind) for where, plain, kind in rule.mirrors]
    return Route(
        home,
        tuple(place for place, kind in mirrors if kind != "digest-only"),
        tuple(place for place, kind in mirrors if kind == "digest-only"),
    )


def _fit(prefix: str, host: str, name: str) -> int:
    """How much of a name a prefix covers, 0 for none: ``host``, ``host/path``, or ``*.domain``."""
    if prefix.startswith("*."):
        return len(prefix) - 1 if host.endswith(prefix[1:]) else 0
    ends = len(name) == len(prefix) or name[len(prefix) : len(prefix) + 1] == "/"
    return len(prefix) if prefix and name.startswith(prefix) and ends else 0


def _place(name: str, allowed: frozenset[str], *, insecure: bool) -> Place:
    host, _, repository = name.partition("/")
    return Place(host, repository, insecure or host in allowed or "*" in allowed or is_loopback(host))
