"""What a stack is to be on an engine, what is there, and the plan between the two."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from boxwright.model.digest import digest_of, hex_of
from boxwright.model.stack import Check, Placement, StackPublished, Update
from boxwright.model.volumes import VolumeState

LABEL = "dev.boxwright."
"""Before the name of each label of ours."""

RUNNING, STOPPED, CREATED, LOST = "running", "stopped", "created", "lost"
ABSENT = "absent"
"""Of an instance whose member of a cluster does not answer: whether it runs is not known."""
ONLINE, OFFLINE, LEAVING, UNSURE = "online", "offline", "leaving", "unsure"


ONCE, ON_FAILURE = "no", "on-failure"
"""Of `restart`: what ends is not started again, or only where it failed."""
SECRETS = "/run/secrets"
"""Where an instance finds its secrets, as files."""
ENVIRONMENT_PROGRAM = "/.boxwright-secrets"
"""In an instance: puts secrets into the environment of what it then becomes."""
INITS = ("/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd")
"""Programs that want to be a system's first process."""


class MountSpec(NamedTuple):
    """`kind`: volume (a name), path (of the host), own (a volume that goes with the instance)."""

    kind: str
    source: str
    target: str
    read_only: bool = False


class FileSpec(NamedTuple):
    """A file that an instance is given. `content` is a digest, or ``secret:NAME``."""

    path: str
    content: str
    mode: int = 0o444


class GuardRule(NamedTuple):
    """New connections of an instance: `action` is accept or reject; `peer` a subnet, ``#N`` for a part of the network.

    `own` is a subnet that the instance's own address must be in. Empty, and 0 as a port, stand for any.
    """

    action: str
    peer: str = ""
    own: str = ""
    protocol: str = ""
    first: int = 0
    last: int = 0


class Guard(NamedTuple):
    """The rules of one network as one container has them. The last of `outgoing` and `incoming` match everything.

    Containers are known by their addresses: the network is cut into `parts`, and this one's are all in number `part`.
    """

    network: str
    parts: int
    part: int
    outgoing: tuple[GuardRule, ...] = ()
    incoming: tuple[GuardRule, ...] = ()


class InstanceSpec(NamedTuple):
    """Everything that one instance is to be; without secrets, addresses and its generation.

    `secret_env` are variables and the secrets that they hold: no engine is told them, they are read from files when the
    program starts. `image` is an identity, `image_name` its name in the store. `aliases` are its names in the stack's
    networks. By `uplink` it is on the network of an interface of its host too. `pool` is the storage pool of its file
    system; empty for the usual one.
    """

    container: str
    number: int
    image: str
    image_name: str
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    directory: str = ""
    ports: tuple[StackPublished, ...] = ()
    networks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    mounts: tuple[MountSpec, ...] = ()
    files: tuple[FileSpec, ...] = ()
    health: Check = Check("none")
    stop_signal: str = ""
    stop_seconds: float = 10.0
    restart: str = ""
    placement: Placement = Placement()
    guards: tuple[Guard, ...] = ()
    uplink: str = ""
    pool: str = ""

    @property
    def logical(self) -> str:
        """Its name in the stack, such as ``web-2``."""
        return f"{self.container}-{self.number}"

    @property
    def exclusive(self) -> bool:
        """Whether two of it can't run at a time: they would share a volume or a port of the host."""
        fixed = any(it.port.host for it in self.ports)
        return fixed or any(it.kind == "volume" and not it.read_only for it in self.mounts)


def is_done(spec: InstanceSpec | None, exit_code: int | None) -> bool:
    """Whether one that doesn't run has ended as it should: it is run once, or until it does not fail."""
    return spec is not None and spec.restart in (ONCE, ON_FAILURE) and exit_code == 0


def with_secrets(spec: InstanceSpec, argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command of an instance, started so that its environment holds the secrets. An init has them as files alone."""
    if not spec.secret_env or argv[:1] == () or argv[0] in INITS:
        return argv
    return (ENVIRONMENT_PROGRAM, SECRETS, *(name for name, _ in spec.secret_env), "--", *argv)


def spec_fields(spec: InstanceSpec) -> dict[str, Any]:
    """A specification as JSON has it; what is not given is left out."""
    plain = InstanceSpec._field_defaults
    return {name: _plain(value) for name, value in spec._asdict().items() if name not in plain or plain[name] != value}


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def spec_text(spec: InstanceSpec) -> str:
    """As canonical JSON."""
    return json.dumps(spec_fields(spec), sort_keys=True, separators=(",", ":"))


def spec_hash(spec: InstanceSpec) -> str:
    """Equal for instances that are to be the same: 16 hexadecimal digits."""
    text = spec_text(spec._replace(image_name=""))
    return hex_of(digest_of(text.encode("utf-8", "surrogateescape")))[:16]


def spec_from_text(text: str) -> InstanceSpec:
    """A specification from its JSON. Raises ValueError, KeyError or TypeError for another text."""
    from boxwright.model.image import Port

    raw: dict[str, Any] = json.loads(text)
    unknown = set(raw) - set(InstanceSpec._fields)
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    values = {name: _tuples(value) for name, value in raw.items()}
    values["ports"] = tuple(StackPublished(Port(*port), address) for port, address in values.get("ports", ()))
    values["mounts"] = tuple(MountSpec(*mount) for mount in values.get("mounts", ()))
    values["files"] = tuple(FileSpec(*file) for file in values.get("files", ()))
    values["health"] = Check(*values["health"]) if "health" in values else Check("none")
    values["placement"] = Placement(*values["placement"]) if "placement" in values else Placement()
    values["guards"] = tuple(_guard(*guard) for guard in values.get("guards", ()))
    return InstanceSpec(**values)


def _guard(network: str, parts: int, part: int, outgoing: Any, incoming: Any) -> Guard:  # noqa: ANN401 - as JSON has it
    one_way, other_way = (tuple(GuardRule(*rule) for rule in rules) for rules in (outgoing, incoming))
    return Guard(network, parts, part, one_way, other_way)


def _tuples(value: object) -> Any:  # noqa: ANN401 - as JSON has it
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


class NetworkSpec(NamedTuple):
    """A network of a stack. `subnet` may be empty until one is chosen."""

    name: str
    subnet: str = ""
    across: str = ""
    internal: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class VolumeSpec(NamedTuple):
    """A volume of a stack; `size` in bytes, 0 without a limit. It is made on `member`; empty for the only host.

    It is copied to `replicate` members in all, every `copy_every` seconds; every `snapshot_every` seconds (0: never) a
    snapshot is taken, of which `snapshot_keep` are kept.
    """

    name: str
    pool: str = ""
    size: int = 0
    replicate: int = 1
    member: str = ""
    copy_every: float = 60.0
    snapshot_every: float = 0.0
    snapshot_keep: int = 7


class Backend(NamedTuple):
    """What a load balancer sends requests to: the replicas of `container`, each at `port`.

    `certificate` is the digest of a PEM file with its key. `address` is where it is asked, on the hosts' network; empty
    where their own addresses are.
    """

    container: str
    listen: int
    port: int
    algorithm: str = "roundrobin"
    mode: str = "http"
    health: Check = Check("none")
    weights: tuple[tuple[str, int], ...] = ()
    drain: float = 30.0
    certificate: str = ""
    address: str = ""


class Service(NamedTuple):
    """A port of each instance of `container`, and what it is called there."""

    container: str
    protocol: str
    port: int
    names: tuple[str, ...]


class ContainerSpec(NamedTuple):
    """The instances of one container, and how they are brought up: after whom, how they are replaced.

    `after` are other containers and what they are waited for: started, healthy or completed. With the `failover`
    replica, what has a volume is started from a copy of it when its member is gone.
    """

    name: str
    instances: tuple[InstanceSpec, ...]
    after: tuple[tuple[str, str], ...] = ()
    update: Update = Update()
    failover: str = ""


class Desired(NamedTuple):
    """A whole stack as it is to be. `containers` in the order in which they can be started.

    `services` are what its resolver tells of; None where it has none.
    """

    stack: str
    containers: tuple[ContainerSpec, ...]
    networks: tuple[NetworkSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    backends: tuple[Backend, ...] = ()
    services: tuple[Service, ...] | None = None

    @property
    def moving_address(self) -> str:
        """One that moves between load balancers; empty where none does."""
        return next((it.address for it in self.backends if it.address), "")

    @property
    def instances(self) -> tuple[InstanceSpec, ...]:
        """All of them."""
        return tuple(instance for container in self.containers for instance in container.instances)


def desired_text(desired: Desired) -> str:
    """A whole stack as JSON, for what is remembered of releases."""
    fields = desired._asdict()
    fields["containers"] = [
        {**it._asdict(), "instances": [spec_fields(instance) for instance in it.instances]} for it in desired.containers
    ]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def desired_from_text(text: str) -> Desired:
    """The stack from its JSON. Raises ValueError, KeyError or TypeError for another text."""
    raw: dict[str, Any] = json.loads(text)
    containers = tuple(
        ContainerSpec(
            it["name"],
            tuple(spec_from_text(json.dumps(fields)) for fields in it["instances"]),
            _tuples(it["after"]),
            Update(*it["update"]),
            it.get("failover", ""),
        )
        for it in raw["containers"]
    )
    backends = [Backend(*_tuples(it)) for it in raw["backends"]]
    services = raw.get("services")
    return Desired(
        raw["stack"],
        containers,
        tuple(NetworkSpec(*_tuples(it)) for it in raw["networks"]),
        tuple(VolumeSpec(*it) for it in raw["volumes"]),
        tuple(it._replace(health=Check(*it.health)) for it in backends),
        None if services is None else tuple(Service(*_tuples(it)) for it in services),
    )


class Instance(NamedTuple):
    """An instance as an engine shows it. `addresses` by network; `member` is the host; `spec` None where unreadable."""

    name: str
    container: str
    number: int
    generation: int
    hash: str
    state: str
    spec: InstanceSpec | None = None
    addresses: tuple[tuple[str, str], ...] = ()
    member: str = ""
    exit_code: int | None = None
    started: float = 0.0
    ports: tuple[str, ...] = ()

    @property
    def logical(self) -> str:
        """Its name in the stack."""
        return f"{self.container}-{self.number}"


class Network(NamedTuple):
    """A network that is there, and what its engine knows of how it was made; None and empty where it does not."""

    name: str
    subnet: str
    whole: bool = True
    internal: bool | None = None
    across: str = ""


class Member(NamedTuple):
    """A host of a cluster. `state`: online, offline, unsure (just one of two ways to it works), leaving.

    With `unheard` the cluster itself says that it has not heard of it: whoever leads its database can't reach it.
    """

    name: str
    domain: str = ""
    state: str = ONLINE
    unheard: bool = False


class Observed(NamedTuple):
    """What of a stack is there. `taken` are subnets that others have; `members` the hosts of a cluster.

    `places` are volumes that are on one member alone, and that one. `states` is what is known of volumes beyond that.
    `held` are those subnets that no network can have beside them, even where it is named.
    """

    instances: tuple[Instance, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    states: tuple[VolumeState, ...] = ()
    held: tuple[str, ...] = ()


UPLINK = "lan0"
"""The interface of an instance that is on a network of its host."""


class NewInstance(NamedTuple):
    """What an engine is asked to make, without secrets but for `files`, which have bytes; `hosts` is /etc/hosts.

    `rules` are for nft(8), in the instance's own network, before its program begins. `subnets` are those of its
    networks.
    """

    name: str
    stack: str
    spec: InstanceSpec
    labels: tuple[tuple[str, str], ...]
    env: tuple[tuple[str, str], ...]
    addresses: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, bytes, int], ...] = ()
    hosts: str = ""
    member: str = ""
    rules: str = ""
    subnets: tuple[tuple[str, str], ...] = ()


def instance_labels(
    stack: str, spec: InstanceSpec, generation: int, addresses: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """What an engine remembers of an instance."""
    return (
        (f"{LABEL}stack", stack),
        (f"{LABEL}container", spec.container),
        (f"{LABEL}number", str(spec.number)),
        (f"{LABEL}generation", str(generation)),
        (f"{LABEL}hash", spec_hash(spec)),
        (f"{LABEL}addresses", ",".join(f"{network}={address}" for network, address in addresses)),
        (f"{LABEL}spec", spec_text(spec)),
    )


def labelled_instance(name: str, labels: dict[str, str], state: str) -> Instance | None:
    """An instance from its labels; None where they are not ours."""
    try:
        addresses = tuple(
            (network, address)
            for item in labels[f"{LABEL}addresses"].split(",")
            for network, _, address in [item.partition("=")]
            if address
        )
        found = Instance(
            name=name,
            container=labels[f"{LABEL}container"],
            number=int(labels[f"{LABEL}number"]),
            generation=int(labels[f"{LABEL}generation"]),
            hash=labels[f"{LABEL}hash"],
            state=state,
            addresses=addresses,
        )
    except (KeyError, ValueError):
        return None
    try:
        return found._replace(spec=spec_from_text(labels.get(f"{LABEL}spec", "")))
    except (ValueError, KeyError, TypeError):
        return found
