"""Which configuration files there are for a build. What is in them is read only where there is one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.app.outside import TIMEOUT_SECONDS, Outside, debian_snapshot
from boxwright.errors import UsageError

SNAPSHOT_KEY = "debian-snapshot"
TIMEOUT_VARIABLE = "BOXWRIGHT_FETCH_TIMEOUT"
NAMES = (".boxwright-config.yaml", ".buildit-config.yaml")


class Configuration(NamedTuple):
    """What the files say: what the names of bases and languages stand for, mirrors, and where modules are."""

    bases: Mapping[str, str] = MappingProxyType({})
    mirrors: Mapping[str, str] = MappingProxyType({})
    languages: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    modules: tuple[str, ...] = ()

    def outside(self, mirror: str | None, environment: Mapping[str, str], *, offline: bool) -> Outside:
        """How what is not here is reached. Raises `usage.timeout`."""
        text = environment.get(TIMEOUT_VARIABLE, "")
        try:
            timeout = float(text) if text else TIMEOUT_SECONDS
        except ValueError:
            timeout = 0.0
        if not 0 < timeout < math.inf:
            raise UsageError("usage.timeout", f"{TIMEOUT_VARIABLE}={text}: a number of seconds is expected")
        said = self.mirrors.get(SNAPSHOT_KEY)
        snapshot = debian_snapshot() if said is None else said
        return Outside(mirror, self.mirrors, snapshot, timeout, offline, environment)


def configuration_for(directory: str, environment: Mapping[str, str]) -> Configuration:
    """The configuration of a build in `directory`: its tree's has the last word, then the home directory's."""
    files = configuration_files(directory, environment.get("HOME", ""))
    if not files:
        return Configuration()
    from boxwright.app.configurationfile import read_configuration

    return read_configuration(files)


def configuration_files(directory: str, home: str) -> tuple[str, ...]:
    """The files that count, the one with the last word first.

    That of the tree is the nearest of the directory and those above it, up to the root of the checkout (where ``.git``
    is) or the home directory; without a checkout only the directory itself.
    """
    found: list[str] = []
    here = os.path.realpath(directory)
    top = _top(here, home)
    while not found:
        found += [path for name in NAMES if os.path.isfile(path := os.path.join(here, name))]
        if here == top:
            break
        here = os.path.dirname(here)
    if home:
        found += [path for name in NAMES if os.path.isfile(path := os.path.join(os.path.realpath(home), name))]
    return tuple(dict.fromkeys(found))


def _top(directory: str, home: str) -> str:
    here = directory
    while not os.path.exists(os.path.join(here, ".git")):
        above = os.path.dirname(here)
        if above == here or (home and here == os.path.realpath(home)):
            return directory
        here = above
    return here
