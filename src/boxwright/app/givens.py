"""What was given as build contexts, once it is known what it is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
"""The build argument with which BuildKit keeps ``.git`` in a context from a repository."""


class Given(NamedTuple):
    """A context as a directory. `fetched`: it was made for this build from what may be a stranger's.

    `text` is there where what came was a definition and no context; `committed` is the time of a repository's commit.
    """

    directory: str
    fetched: bool = False
    text: str | None = None
    committed: int | None = None


class Named(NamedTuple):
    """What ``--build-context`` gives, by name: other `images`, stages under other names (`aliases`), and `trees`."""

    images: Mapping[str, str] = MappingProxyType({})
    aliases: Mapping[str, str] = MappingProxyType({})
    trees: Mapping[str, str] = MappingProxyType({})
