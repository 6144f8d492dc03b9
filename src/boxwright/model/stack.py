"""A stack as its definition has it: linked containers, networks, volumes, and where they run."""

from __future__ import annotations

import re
from typing import NamedTuple

from boxwright.model.image import Port
from boxwright.model.span import Span

NATIVE = "native"
ENGINES = (NATIVE, "podman", "lxd", "docker", "lxc")
DEFAULT_NETWORK = "default"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
"""The whole of a stack's or a container's name."""
HOSTS = "hosts"
"""One network over all hosts of a cluster, where nothing else is said."""
_ANY = ("", "0.0.0.0")  # noqa: S104  all addresses of a host


class StackBuild(NamedTuple):
    """How an image is built: a directory with a definition of any kind, and what `boxwright build` is told."""

    context: str
    file: str = ""
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()


class StackDatabase(NamedTuple):
    """A server that comes with the program. `version` as in DBASE."""

    kind: str
    version: str = ""


class StackBundle(NamedTuple):
    """A base container that fetches a bundle when it starts. `base` is a name below ``base/``."""

    base: str
    url: str
    sha256: str = ""


class Check(NamedTuple):
    """How an instance is asked whether it is well. `kind`: http, tcp, command, or none. Times in seconds.

    A `command` of one word is the shell's; the instance is well when it ends with 0. Failures in the first
    `start_period` seconds don't count; after that `retries` of them in a row mean that it is not well.
    """

    kind: str
    path: str = ""
    port: int = 0
    command: tuple[str, ...] = ()
    interval: float = 2.0
    timeout: float = 5.0
    start_period: float = 60.0
    retries: int = 3


class Update(NamedTuple):
    """How instances are replaced. `strategy`: rolling (the new one first where it can be) or recreate.

    `parallel` at a time; first `canary` of them, which must be well for `wait` seconds.
    """

    strategy: str = "rolling"
    parallel: int = 1
    canary: int = 0
    wait: float = 0.0


class Placement(NamedTuple):
    """Where instances go. `spread`: over hosts (also when empty), failure domains (domain), none; `on` some hosts."""

    spread: str = ""
    on: tuple[str, ...] = ()


class StackPublished(NamedTuple):
    """A port of the host that leads into the container. `host` 0 is any free one."""

    port: Port
    address: str = ""

    def meets(self, other: StackPublished) -> bool:
        """Whether one host can't have both."""
        one = (self.port.host, self.port.protocol)
        alike = self.address == other.address or self.address in _ANY or other.address in _ANY
        return bool(self.port.host) and alike and one == (other.port.host, other.port.protocol)


def is_path(source: str) -> bool:
    """Whether a volume's source is a path of the host, and no name."""
    return "/" in source or source in (".", "..")


class VolumeUse(NamedTuple):
    """A volume, or a path of the host, at `target`. With an empty target a database knows where."""

    source: str
    target: str
    read_only: bool = False


class SecretUse(NamedTuple):
    """A secret as the file `target`."""

    name: str
    target: str


class FileUse(NamedTuple):
    """A file of the definition's directory as the file `target`."""

    source: str
    target: str
    mode: int = 0o444


class StackContainer(NamedTuple):
    """A kind of container: `replicas` instances of it are run. One of build, image, database and bundle is given.

    `failover` replica: what has a volume is started from a copy of it where its member is gone; else it waits.

    `links` are waited for and told of in the environment; `after` are names with what they are waited for:
    started, healthy, or completed. `aliases` are more names that lead to it. `pool` is where its file system lies.
    Each replica has volumes of its own, or with `shares_volumes` (as Compose has it) all of them the same.
    `port_places` are where its ports are written.
    """

    name: str
    where: Span
    build: StackBuild | None = None
    image: str = ""
    database: StackDatabase | None = None
    bundle: StackBundle | None = None
    replicas: int = 1
    ports: tuple[StackPublished, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    after: tuple[tuple[str, str], ...] = ()
    networks: tuple[str, ...] = (DEFAULT_NETWORK,)
    health: Check | None = None
    update: Update = Update()
    placement: Placement = Placement()
    volumes: tuple[VolumeUse, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    user: str = ""
    directory: str = ""
    secrets: tuple[SecretUse, ...] = ()
    files: tuple[FileUse, ...] = ()
    stop_seconds: float = 10.0
    restart: str = ""
    failover: str = ""
    aliases: tuple[str, ...] = ()
    pool: str = ""
    shares_volumes: bool = False
    port_places: tuple[Span, ...] = ()


class StackNetwork(NamedTuple):
    """One subnet. `across`: hosts (one subnet over all of them, also when empty) or host (a bridge on each).

    `subnet` may be empty.

    `allow` and `deny` are rules (`model.rules`) of what is new on it: what `deny` names is refused; where there is
    any `allow`, so is what it does not name.
    """

    name: str
    subnet: str = ""
    across: str = ""
    internal: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Balancer(NamedTuple):
    """HAProxy before the replicas of `container`: it listens on `listen` and asks their `port`.

    `drain` are seconds in which requests may end when an instance goes. `address` (with its prefix) is one on the
    network of this `interface` of the hosts, which moves to whichever load balancer is there.
    """

    container: str
    listen: int
    port: int = 0
    algorithm: str = "roundrobin"
    mode: str = "http"
    drain: float = 30.0
    weights: tuple[tuple[str, int], ...] = ()
    certificate: str = ""
    address: str = ""
    interface: str = ""


class StackVolume(NamedTuple):
    """A volume: in which pool, how large (bytes, 0 for no limit), on how many members in all, copied how often.

    Times are in seconds. Snapshots are taken every `snapshot_every` seconds (0: never), and so many are kept.
    """

    name: str
    pool: str = ""
    size: int = 0
    replicate: int = 1
    copy_every: float = 60.0
    snapshot_every: float = 0.0
    snapshot_keep: int = 7


class StackSecret(NamedTuple):
    """Where a secret comes from: a file, or a variable of the environment; both empty: it is made."""

    name: str
    file: str = ""
    env: str = ""


class Cluster(NamedTuple):
    """What runs it: an engine, and for LXD the name of a remote."""

    engine: str = NATIVE
    remote: str = ""


class Stack(NamedTuple):
    """A whole stack. `file` is where it is written, `notes` what of a Compose file could not be carried over.

    With `resolver` it has a server of names (DNS). `places` are where parts stand that can be wrong still when it is
    planned, such as ``networks.front.subnet``.
    """

    name: str
    file: str
    containers: tuple[StackContainer, ...]
    networks: tuple[StackNetwork, ...] = ()
    balancers: tuple[Balancer, ...] = ()
    volumes: tuple[StackVolume, ...] = ()
    secrets: tuple[StackSecret, ...] = ()
    cluster: Cluster = Cluster()
    notes: tuple[str, ...] = ()
    resolver: bool = False
    places: tuple[tuple[str, Span], ...] = ()

    def where(self, *path: str) -> Span | None:
        """Where a part stands; None where that is not known."""
        return dict(self.places).get(".".join(path))

    def container(self, name: str) -> StackContainer:
        """The container of this name. Raises KeyError."""
        for container in self.containers:
            if container.name == name:
                return container
        raise KeyError(name)
