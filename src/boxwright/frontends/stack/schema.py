"""What an autopilot.yaml may say: the description that checks it, and that editors get as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from boxwright.frontends.package.schema import Part, Sha256, Texts

MemberName = Annotated[
    str, Meta(pattern=r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", description="lower case letters, digits and -, at most 30")
]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", description="lower case letters, . _ -")]
Absolute = Annotated[str, Meta(pattern=r"^/[^:]+$", description="paths from the root, such as /var/lib/app")]
Duration = Annotated[str, Meta(pattern=r"^(\d+(\.\d+)?(ms|s|m|h))+$", description="times such as 5s or 1m30s")]
Size = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?([kMGT]i?B|B)?$", description="sizes such as 5GiB")]
Published = Annotated[
    str,
    Meta(
        pattern=r"^((\d{1,3}(\.\d{1,3}){3}:)?\d{0,5}:)?\d{1,5}(/(tcp|udp))?$",
        description="[[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]",
    ),
]
Subnet = Annotated[str, Meta(pattern=r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$", description="such as 10.60.0.0/24")]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0, le=1000)]
Positive = Annotated[int, Meta(ge=1, le=1000)]


class BuildPart(Part, frozen=True, kw_only=True):
    """A directory with any definition; `file` where it holds several."""

    context: str = "."
    file: str = ""
    target: str = ""
    args: dict[str, str] = msgspec.field(default_factory=dict)


class DatabasePart(Part, frozen=True, kw_only=True):
    """A database server, as in DBASE."""

    type: Literal["mysql", "postgresql"]
    version: str = ""


class BundlePart(Part, frozen=True, kw_only=True):
    """A base container (`base: php`) and the bundle that it fetches."""

    base: Name
    url: str
    sha256: Sha256 = ""


class HealthPart(Part, frozen=True, kw_only=True):
    """One of `http` (a path), `tcp` and `command`; `disable` does without the image's own."""

    http: Annotated[str, Meta(pattern=r"^/", description="a path such as /healthz")] = ""
    tcp: bool = False
    command: str | Texts = ()
    disable: bool = False
    port: PortNumber | None = None
    interval: Duration = "2s"
    timeout: Duration = "5s"
    start_period: Duration = "60s"
    retries: Positive = 3


class UpdatePart(Part, frozen=True, kw_only=True):
    """`rolling`: a few at a time, the new one first where that can be; `recreate`: the old one goes first."""

    strategy: Literal["rolling", "recreate"] = "rolling"
    parallel: Positive = 1
    canary: Count = 0
    wait: Duration = "0s"


class PlacementPart(Part, frozen=True, kw_only=True):
    """`spread` puts replicas on different members, or failure domains first; `on` names those that may be used."""

    spread: Literal["host", "domain", "none"] | None = None
    on: Texts = ()


class VolumePart(Part, frozen=True, kw_only=True):
    """A volume, or with `/` in the source a path of the host."""

    name: str
    target: Absolute = ""
    size: Size = ""
    read_only: bool = False


class SecretUsePart(Part, frozen=True, kw_only=True):
    """A secret as a file; by default /run/secrets/NAME."""

    name: Name
    target: Absolute = ""


class FilePart(Part, frozen=True, kw_only=True):
    """A file from beside the definition."""

    src: str
    dest: Absolute
    mode: Annotated[str, Meta(pattern=r"^[0-7]{3,4}$", description="octal, such as 0644")] = "0444"


class ContainerPart(Part, frozen=True, kw_only=True):
    """A container: one of `build`, `image`, `database` and `bundle`."""

    build: str | BuildPart | None = None
    image: str = ""
    database: Literal["mysql", "postgresql"] | DatabasePart | None = None
    bundle: BundlePart | None = None
    replicas: Count = 1
    ports: tuple[Published, ...] = ()
    links: Texts = ()
    networks: Texts | None = None
    healthcheck: HealthPart | None = None
    update: UpdatePart = UpdatePart()
    placement: PlacementPart = PlacementPart()
    volume: str | VolumePart | None = None
    volumes: tuple[str | VolumePart, ...] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    entrypoint: str | Texts | None = None
    command: str | Texts | None = None
    user: str = ""
    directory: Absolute = ""
    secrets: tuple[str | SecretUsePart, ...] = ()
    files: tuple[FilePart, ...] = ()
    stop_grace: Duration = "10s"
    restart: Literal["", "no", "always", "on-failure", "unless-stopped"] = ""
    failover: Literal["", "replica", "wait"] = ""
    pool: str = ""


class NetworkPart(Part, frozen=True, kw_only=True):
    """`across: hosts` is one subnet over all hosts, `across: host` a bridge on each."""

    subnet: Subnet = ""
    across: Literal["hosts", "host"] = "hosts"
    internal: bool = False
    allow: Texts = ()
    deny: Texts = ()


class BalancerPart(Part, frozen=True, kw_only=True):
    """HAProxy before the replicas of the container of this name; `address` moves between several of them."""

    listen: PortNumber
    port: PortNumber | None = None
    algorithm: Literal["roundrobin", "leastconn", "source", "random", "first"] = "roundrobin"
    mode: Literal["http", "tcp"] = "http"
    drain: Duration = "30s"
    weights: dict[str, Annotated[int, Meta(ge=0, le=256)]] = msgspec.field(default_factory=dict)
    tls: str = ""
    address: str = ""
    interface: str = ""


class SnapshotsPart(Part, frozen=True, kw_only=True):
    """Snapshots that `boxwright watch` takes; the newest are kept."""

    every: Duration
    keep: Positive = 7


class StackVolumePart(Part, frozen=True, kw_only=True):
    """A volume: its pool, its size, on how many members it is in all, and how often it is copied to the others."""

    pool: str = ""
    size: Size = ""
    replicate: Positive = 1
    copy_every: Duration = "1m"
    snapshots: SnapshotsPart | None = None


class SecretPart(Part, frozen=True, kw_only=True):
    """A file beside the definition, or a variable of the environment; neither: it is made."""

    file: str = ""
    env: str = ""


class ClusterPart(Part, frozen=True, kw_only=True):
    """What runs the stack."""

    engine: Literal["native", "podman", "lxd", "docker", "lxc"] = "native"
    remote: str = ""


class StackPart(Part, frozen=True, kw_only=True):
    """An autopilot.yaml."""

    name: MemberName
    containers: dict[MemberName, ContainerPart]
    networks: dict[MemberName, NetworkPart] = msgspec.field(default_factory=dict)
    loadbalancer: dict[str, BalancerPart] = msgspec.field(default_factory=dict)
    volumes: dict[Name, StackVolumePart] = msgspec.field(default_factory=dict)
    secrets: dict[Name, SecretPart] = msgspec.field(default_factory=dict)
    resolver: bool = False
    cluster: ClusterPart = ClusterPart()


def json_schema() -> dict[str, object]:
    """The JSON Schema of autopilot.yaml (draft 2020-12)."""
    schema = msgspec.json.schema(StackPart)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "autopilot.yaml", **schema}
