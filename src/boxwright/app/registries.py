"""Registries as this user reaches them: by configuration, credentials, and what the command line allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from boxwright.app.configuration import configuration_files
from boxwright.repositories.registry.client import Client
from boxwright.repositories.registry.credentials import Login, login_for
from boxwright.repositories.registry.hosts import Place, Route, Rule, read_rules, route_to
from boxwright.repositories.registry.hosts import configuration_files as registries_conf
from boxwright.repositories.registry.retries import Patience
from boxwright.repositories.registry.transport import Transport, certificate_directories
from boxwright.sources.reference import RegistryName

TIMEOUT_SECONDS = 60.0


class Reach(NamedTuple):
    """How registries are reached. `insecure`: plain HTTP and unknown certificates are taken; `login` comes first."""

    insecure: bool = False
    patience: Patience = Patience()
    timeout: float = TIMEOUT_SECONDS
    login: Login | None = None


class Registries:
    """Makes clients. To be made before this process becomes root of a namespace: files are found by its user."""

    def __init__(self, environment: Mapping[str, str], reach: Reach) -> None:
        self._environment = environment
        self._user = os.geteuid()
        self._reach = reach
        self._stopped = threading.Event()
        self._insecure: dict[str, bool] = {}
        self.transport = Transport(
            timeout=reach.timeout,
            verify=lambda host: not self._insecure.get(host, False),
            certificates=certificate_directories(environment),
        )

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        return (*read_rules(registries_conf(self._environment)), *_own_rules(self._environment))

    def route(self, name: RegistryName) -> Route:
        """Where an image's repository is."""
        insecure = ("*",) if self._reach.insecure else ()
        return route_to(name.registry, name.repository, self._rules, insecure)

    def client(self, place: Place, *, push: bool = False) -> Client:
        """A client of a repository."""
        self._insecure[place.server] = place.insecure

        def login() -> Login | None:
            return self._reach.login or login_for(place.host, place.repository, self._environment, self._user)

        return Client(
            place, self.transport, login, push=push, patience=self._reach.patience, cancelled=self._stopped.is_set
        )

    def stop(self) -> None:
        """End what is under way."""
        self._stopped.set()
        self.transport.abort()

    def resume(self) -> None:
        """Take up work again."""
        self._stopped.clear()
        self.transport.resume()

    def close(self) -> None:
        """Close connections."""
        self.transport.close()


def _own_rules(environment: Mapping[str, str]) -> Iterator[Rule]:
    """What the user's own configuration says. A checkout's doesn't count: it would send passwords where it likes."""
    home = environment.get("HOME", "")
    files = configuration_files(home, home) if home else ()
    if not files:
        return
    from boxwright.app.configurationfile import read_registries

    for name, spec in read_registries(files).items():
        mirrors = tuple((mirror, spec.insecure, "all") for mirror in spec.mirrors)
        yield Rule(name, spec.location, insecure=spec.insecure, blocked=False, mirrors=mirrors)


@contextmanager
def opened_registries(environment: Mapping[str, str], reach: Reach) -> Iterator[Registries]:
    """Registries whose connections end with the context."""
    registries = Registries(environment, reach)
    try:
        yield registries
    finally:
        registries.close()
