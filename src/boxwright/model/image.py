"""Images: a configuration and one flat root file system."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.model.digest import Digest
from boxwright.model.tree import Manifest


class Port(NamedTuple):
    """`host` is 0 where no port of the host is named. `protocol`: tcp, udp (or sctp for EXPOSE)."""

    container: int
    protocol: str = "tcp"
    host: int = 0


class Healthcheck(NamedTuple):
    """OCI has no healthcheck; fields as in Docker's image configuration. Times in nanoseconds, 0 where not given."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Database(NamedTuple):
    """A database that the image needs (DBASE). `kind`: mysql, postgresql. `name` is in capitals, as in NAME_HOST.

    `dump` is the digest of its first content, a logical dump of `size` bytes; an `embedded` one lies in the image.
    """

    name: str
    kind: str
    version: str
    dump: str = ""
    size: int = 0
    embedded: bool = False


class ImageConfig(NamedTuple):
    """What the image says of running it (OCI image-spec, config.md), and PORT, which is ours.

    `entrypoint` and `cmd` are None where they are not given. `shell` None is ``/bin/sh -c``.
    """

    architecture: str
    os: str = "linux"
    variant: str = ""
    author: str = ""
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    workdir: str = ""
    user: str = ""
    exposed: tuple[Port, ...] = ()
    published: tuple[Port, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    onbuild: tuple[str, ...] = ()
    args_escaped: bool = False
    databases: tuple[Database, ...] = ()


class Snapshot(NamedTuple):
    """The file system that a step left behind. `layers` are the store's layer names, the topmost first."""

    key: Digest
    layers: tuple[str, ...]
    manifest: Manifest
    epoch: int


class HistoryEntry(NamedTuple):
    """What one instruction did: `snapshot` is what it left, None where it changed settings alone."""

    created_by: str
    snapshot: Snapshot | None


class Image(NamedTuple):
    """`identity` is the digest of the configuration and the tree's full manifest; `created` in seconds since 1970."""

    identity: Digest
    config: ImageConfig
    snapshot: Snapshot
    created: int
    size: int
