"""From a stack and what its images say to everything that is to be there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from boxwright.deploy.balancing import CERTIFICATE, certificate_path
from boxwright.deploy.guarding import granted_to, guards_of
from boxwright.deploy.naming import NAMES, PORT, RESOLV_CONF, RESOLVER, service_names
from boxwright.deploy.planning import start_order
from boxwright.deploy.ports import PortClaim, check_claims
from boxwright.errors import DefinitionError
from boxwright.model.deployment import (
    SECRETS,
    Backend,
    ContainerSpec,
    Desired,
    FileSpec,
    InstanceSpec,
    MountSpec,
    NetworkSpec,
    Service,
    VolumeSpec,
)
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.stack import (
    DEFAULT_NETWORK,
    Balancer,
    Check,
    Stack,
    StackContainer,
    StackNetwork,
    StackPublished,
    StackVolume,
    VolumeUse,
    is_path,
)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BALANCER = "lb"
OWN_NAME = "app"
SECRET = "secret:"  # noqa: S105  the beginning of a reference
_PASSWORD = f"{SECRETS}/DBASE_PASSWORD"
_SECOND = 10**9
_FEWEST_MOVING = 2
"""So many load balancers share an address at least."""


class ImageFacts(NamedTuple):
    """What a container's image is: identity, name in the store, configuration."""

    identity: str
    name: str
    config: ImageConfig


class ServerFacts(NamedTuple):
    """A database server: where its data lies, its program, its port, the secret that is its password, a first dump."""

    kind: str
    home: str
    program: str
    port: int
    secret: str
    dump: str = ""


class Facts(NamedTuple):
    """All that is known beside the stack. `files` are digests by path; `replicas` overrides the stack's.

    `hosts` is how many machines the engine has.
    """

    images: Mapping[str, ImageFacts]
    servers: Mapping[str, ServerFacts]
    files: Mapping[str, str]
    replicas: Mapping[str, int]
    hosts: int = 1


def desired_of(stack: Stack, facts: Facts) -> Desired:
    """Everything. Raises DefinitionError where the images' ports are needed and not known."""
    builder = _Builder(stack, facts)
    backends = tuple(builder.backends())
    containers = [builder.container(it, backends) for it in stack.containers]
    if backends:
        containers.append(builder.balancer(backends))
    builder.check_ports(backends)
    builder.check_volumes()
    services = tuple(builder.services()) if stack.resolver else None
    if stack.resolver:
        containers = [builder.resolver(containers), *(_resolving(it) for it in containers)]
    containers = [_guarded(it, stack, containers, backends) for it in containers]
    used = {name for container in containers for it in container.instances for name in it.networks}
    used |= {name for container in stack.containers for name in container.networks}
    declared = {network.name: network for network in stack.networks}
    networks = [declared.get(name, StackNetwork(name)) for name in (*declared, DEFAULT_NETWORK) if name in used]
    return Desired(
        stack=stack.name,
        containers=start_order(containers),
        networks=tuple(
            NetworkSpec(it.name, it.subnet, it.across, it.internal, it.allow, it.deny) for it in dict.fromkeys(networks)
        ),
        volumes=tuple(builder.volumes(containers)),
        backends=backends,
        services=services,
    )


def _resolving(container: ContainerSpec) -> ContainerSpec:
    """With its names looked up in the stack's resolver, which comes first."""
    names = FileSpec(RESOLV_CONF, NAMES)
    instances = tuple(it._replace(files=(*it.files, names)) if it.networks else it for it in container.instances)
    return container._replace(instances=instances, after=(*container.after, (RESOLVER, "healthy")))


def _guarded(
    container: ContainerSpec, stack: Stack, containers: Iterable[ContainerSpec], backends: tuple[Backend, ...]
) -> ContainerSpec:
    """With the rules of its networks."""
    ruled = [it for it in stack.networks if it.allow or it.deny]
    if not ruled:
        return container
    there = [(it, tuple(other.name for other in containers if _is_in(other, it.name))) for it in ruled]
    guards = guards_of(container.name, there, granted_to(BALANCER, backends, resolver=stack.resolver))
    return container._replace(instances=tuple(it._replace(guards=guards) for it in container.instances))


def _is_in(container: ContainerSpec, network: str) -> bool:
    return any(network in it.networks for it in container.instances)


class _Builder:
    """One stack with what is known of it."""

    def __init__(self, stack: Stack, facts: Facts) -> None:
        self._stack = stack
        self._facts = facts

    def replicas(self, container: StackContainer) -> int:
        """How many instances it has."""
        return self._facts.replicas.get(container.name, container.replicas)

    def container(self, container: StackContainer, backends: tuple[Backend, ...]) -> ContainerSpec:
        """Its instances."""
        instances = tuple(self._instance(container, number + 1, backends) for number in range(self.replicas(container)))
        return ContainerSpec(container.name, instances, container.after, container.update, container.failover)

    def _instance(self, container: StackContainer, number: int, backends: tuple[Backend, ...]) -> InstanceSpec:
        image = self._facts.images[container.name]
        server = self._facts.servers.get(container.name)
        env, secret_env = self._environment(container, image.config)
        return InstanceSpec(
            container=container.name,
            number=number,
            image=image.identity,
            image_name=image.name,
            argv=(server.program, "run") if server else self._argv(container, image),
            env=tuple(env.items()),
            secret_env=tuple(secret_env.items()),
            user=container.user or image.config.user,
            directory=container.directory or image.config.workdir or "/",
            ports=self._own_ports(container, backends),
            networks=container.networks,
            aliases=self._aliases(container),
            mounts=tuple(self._mounts(container, number)),
            files=tuple(self._files(container)),
            health=self._health(container),
            stop_signal=image.config.stop_signal,
            stop_seconds=60.0 if server else container.stop_seconds,
            restart=container.restart,
            placement=container.placement,
            pool=container.pool,
        )

    def _argv(self, container: StackContainer, image: ImageFacts) -> tuple[str, ...]:
        """As the OCI image specification has it: a command replaces Cmd, an entrypoint of the stack's both."""
        config = image.config
        if container.entrypoint is not None:
            argv = container.entrypoint + (container.command or ())
        else:
            argv = (config.entrypoint or ()) + (config.cmd or () if container.command is None else container.command)
        if not argv:
            message = f"the image of {container.name} has no command of its own"
            raise DefinitionError("stack.command", message, hint="say what to run: `command:`", where=container.where)
        return argv

    # Ports ------------------------------------------------------------------------------------------------------------

    def _ports(self, container: StackContainer) -> tuple[StackPublished, ...]:
        """The container's own, and of the image's PORTs those that it does not name."""
        config = self._facts.images[container.name].config
        named = {(it.port.container, it.port.protocol) for it in container.ports}
        more = (StackPublished(it) for it in config.published if (it.container, it.protocol) not in named)
        return (*container.ports, *more)

    def _own_ports(self, container: StackContainer, backends: tuple[Backend, ...]) -> tuple[StackPublished, ...]:
        """Those that no load balancer takes over."""
        balanced = {it.port for it in backends if it.container == container.name}
        return tuple(it for it in self._ports(container) if not _is_balanced(it, balanced))

    def check_ports(self, backends: tuple[Backend, ...]) -> None:
        """Each port of a host is that of one instance. Raises DefinitionError `stack.port`."""
        claims: list[PortClaim] = []
        for container in self._stack.containers:
            count = self.replicas(container)
            own = self._own_ports(container, backends) if count else ()
            hosts = min(self._facts.hosts, len(container.placement.on) or self._facts.hosts)
            claims += [PortClaim(it, container.name, self._port_place(container, it), count, hosts) for it in own]
        for backend in backends:
            container = self._stack.container(backend.container)
            place = self._stack.where("loadbalancer", container.name) or container.where
            for it in self._published(backend):
                where = self._port_place(container, it) if it in container.ports else place
                claims.append(PortClaim(it, container.name, where))
        check_claims(claims)

    def _port_place(self, container: StackContainer, published: StackPublished) -> Span:
        """Where a port is named; where its container is, for one of the image's."""
        places = dict(zip(container.ports, container.port_places, strict=False))
        return places.get(published, container.where)

    def port_of(self, container: StackContainer) -> int:
        """The one that others ask: of the check, of `ports`, of the image; 0 where none is known."""
        server = self._facts.servers.get(container.name)
        if server is not None:
            return server.port
        config = self._facts.images[container.name].config
        known = [container.health.port] if container.health and container.health.port else []
        known += [it.port.container for it in container.ports if it.port.protocol == "tcp"]
        known += [it.container for it in (*config.published, *config.exposed) if it.protocol == "tcp"]
        return known[0] if known else 0

    def _required_port(self, container: StackContainer, key: str) -> int:
        port = self.port_of(container)
        if not port:
            hint = f"say it: `{key}: {{port: 80}}`, or EXPOSE in its recipe"
            raise DefinitionError(
                "stack.no-port", f"no port of {container.name} is known", hint=hint, where=container.where
            )
        return port

    # Environment and names --------------------------------------------------------------------------------------------

    def _environment(self, container: StackContainer, config: ImageConfig) -> tuple[dict[str, str], dict[str, str]]:
        """Its variables, and those that hold secrets. What the stack's author says wins."""
        env = {"PATH": DEFAULT_PATH, **dict(config.env)}
        secret_env: dict[str, str] = {}
        own = self._facts.servers.get(container.name)
        if own is not None:
            env |= {"DBASE_LISTEN": "*", "DBASE_PASSWORD_FILE": _PASSWORD}
        for target, alias in container.links:
            linked = self._stack.container(target)
            prefix = _prefix(alias)
            env[f"{prefix}_HOST"] = alias
            if port := self.port_of(linked):
                env[f"{prefix}_PORT"] = str(port)
            server = self._facts.servers.get(target)
            if server is not None:
                env |= {f"{prefix}_TYPE": server.kind, f"{prefix}_NAME": OWN_NAME, f"{prefix}_USER": OWN_NAME}
                secret_env[f"{prefix}_PASSWORD"] = server.secret
                env[f"{prefix}_PASSWORD_FILE"] = _password_file(alias)
        env.update(container.env)
        return env, {name: secret for name, secret in secret_env.items() if name not in dict(container.env)}

    def _aliases(self, container: StackContainer) -> tuple[str, ...]:
        """Its name, and what others who are linked with it call it."""
        called = [alias for it in self._stack.containers for target, alias in it.links if target == container.name]
        return tuple(dict.fromkeys((container.name, *container.aliases, *sorted(called))))

    # Volumes and files ------------------------------------------------------------------------------------------------

    def _mounts(self, container: StackContainer, number: int) -> Iterable[MountSpec]:
        server = self._facts.servers.get(container.name)
        targets: set[str] = set()
        uses = container.volumes
        if server is not None and not any(use.target in ("", server.home) for use in uses):
            yield MountSpec("volume", f"{container.name}-data", server.home)
            targets.add(server.home)
        for use in uses:
            target = use.target or (server.home if server else "")
            targets.add(target)
            if not use.source:
                yield MountSpec("own", "", target, use.read_only)
            elif is_path(use.source):
                yield MountSpec("path", use.source, target, use.read_only)
            else:
                yield MountSpec("volume", _volume_name(container, use, number), target, use.read_only)
        for path in self._facts.images[container.name].config.volumes:
            if path.rstrip("/") not in targets:
                yield MountSpec("own", "", path)

    def _files(self, container: StackContainer) -> Iterable[FileSpec]:
        for use in container.files:
            yield FileSpec(use.target, self._facts.files[use.source], use.mode)
        yield from self._secrets(container)
        server = self._facts.servers.get(container.name)
        if server is not None and server.dump:
            yield FileSpec("/dump.sql", server.dump)

    def _secrets(self, container: StackContainer) -> Iterable[FileSpec]:
        """Its own, and the passwords of databases; of two at one place that which the stack's author names."""
        found = {it.target: it.name for it in container.secrets}
        server = self._facts.servers.get(container.name)
        if server is not None:
            found.setdefault(_PASSWORD, server.secret)
        for target, alias in container.links:
            if target in self._facts.servers:
                found.setdefault(_password_file(alias), self._facts.servers[target].secret)
        return (FileSpec(path, f"{SECRET}{name}") for path, name in found.items())

    def check_volumes(self) -> None:
        """A replica's own volume is not another container's. Raises DefinitionError `stack.volume`."""
        named: dict[str, StackContainer] = {}
        for container in self._stack.containers:
            for use in container.volumes:
                if use.source and not is_path(use.source) and not use.read_only:
                    named.setdefault(use.source, container)
        for container in self._stack.containers:
            for name, base in self._numbered(container):
                if (other := named.get(name)) is not None:
                    message = f"the volume {name} is the one of a replica of {container.name}, which has {base}"
                    raise DefinitionError("stack.volume", message, hint="choose another name", where=other.where)

    def _numbered(self, container: StackContainer) -> Iterable[tuple[str, str]]:
        """The volumes of its further replicas, each with the name that the stack gives."""
        for use in container.volumes:
            if use.source and not is_path(use.source) and not use.read_only and not container.shares_volumes:
                numbers = range(2, self.replicas(container) + 1)
                yield from ((_volume_name(container, use, it), use.source) for it in numbers)

    def volumes(self, containers: Iterable[ContainerSpec]) -> Iterable[VolumeSpec]:
        """Every named volume that an instance uses, each once; those of replicas as their first one's."""
        declared = {volume.name: volume for volume in self._stack.volumes}
        bases = dict(pair for container in self._stack.containers for pair in self._numbered(container))
        mounts = (it for container in containers for instance in container.instances for it in instance.mounts)
        for name in dict.fromkeys(it.source for it in mounts if it.kind == "volume"):
            found = declared.get(name) or declared.get(bases.get(name, name), StackVolume(name))
            times = (found.copy_every, found.snapshot_every, found.snapshot_keep)
            yield VolumeSpec(name, found.pool, found.size, found.replicate, "", *times)

    # Health -----------------------------------------------------------------------------------------------------------

    def _health(self, container: StackContainer) -> Check:
        if container.name in self._facts.servers and container.health is None:
            return Check("command", command=("test", "-e", "/run/dbase/ready"), interval=1.0, start_period=600.0)
        if container.health is None:
            return _image_check(self._facts.images[container.name].config)
        if container.health.kind in ("http", "tcp") and not container.health.port:
            return container.health._replace(port=self._required_port(container, "healthcheck"))
        return container.health

    # The resolver -----------------------------------------------------------------------------------------------------

    def services(self) -> Iterable[Service]:
        """The ports of each container that are known."""
        for container in self._stack.containers:
            config = self._facts.images[container.name].config
            server, check = self._facts.servers.get(container.name), self._health(container)
            ports = [("tcp", server.port)] if server else []
            ports += [("tcp", check.port)] if check.port else []
            ports += [(it.port.protocol, it.port.container) for it in container.ports]
            ports += [(it.protocol, it.container) for it in (*config.published, *config.exposed)]
            for protocol, port in dict.fromkeys(ports):
                kind = check.kind if port == check.port else ""
                yield Service(container.name, protocol, port, service_names(protocol, port, kind))

    def resolver(self, containers: Iterable[ContainerSpec]) -> ContainerSpec:
        """The container with unbound, in all networks."""
        networks = dict.fromkeys(name for it in containers for spec in it.instances for name in spec.networks)
        check = Check("tcp", port=PORT, interval=1.0, start_period=30.0)
        return ContainerSpec(RESOLVER, (self._own(RESOLVER, tuple(networks), check),))

    def _own(self, name: str, networks: tuple[str, ...], check: Check) -> InstanceSpec:
        """An instance of an image of ours, with its command."""
        image = self._facts.images[name]
        return InstanceSpec(
            container=name,
            number=1,
            image=image.identity,
            image_name=image.name,
            argv=(image.config.entrypoint or ()) + (image.config.cmd or ()),
            env=tuple({"PATH": DEFAULT_PATH, **dict(image.config.env)}.items()),
            directory="/",
            networks=networks,
            aliases=(name,),
            health=check,
            stop_signal=image.config.stop_signal,
        )

    # The load balancer ------------------------------------------------------------------------------------------------

    def backends(self) -> Iterable[Backend]:
        """What is balanced: as the stack says, and replicas of which one port of the host is to lead to all."""
        named = {it.container for it in self._stack.balancers}
        for balancer in self._stack.balancers:
            yield self._backend(self._stack.container(balancer.container), balancer)
        listening = {it.listen for it in self._stack.balancers}
        for container in self._stack.containers:
            fixed = [it for it in container.ports if it.port.host and it.port.protocol == "tcp"]
            if container.name in named or not fixed or self.replicas(container) < 2:
                continue
            for asked in dict.fromkeys(it.port.container for it in fixed):
                listen = next(port for port in range(asked, 65536) if port not in listening)
                listening.add(listen)
                mode = "http" if container.health and container.health.kind == "http" else "tcp"
                yield self._backend(container, Balancer(container.name, listen, asked, mode=mode))

    def _backend(self, container: StackContainer, balancer: Balancer) -> Backend:
        health = self._health(container)
        return Backend(
            container=container.name,
            listen=balancer.listen,
            port=balancer.port or self._required_port(container, "loadbalancer"),
            algorithm=balancer.algorithm,
            mode=balancer.mode,
            health=health,
            weights=balancer.weights,
            drain=balancer.drain,
            certificate=self._facts.files[balancer.certificate] if balancer.certificate else "",
            address=balancer.address,
        )

    def _published(self, backend: Backend) -> tuple[StackPublished, ...]:
        """The ports of a host that lead to what is balanced: those that are named, else that which it listens on.

        None with an address that moves: the hosts' own addresses are not asked.
        """
        if backend.address:
            return ()
        own = [it for it in self._ports(self._stack.container(backend.container)) if _is_balanced(it, (backend.port,))]
        fixed = tuple(it for it in own if it.port.host)
        listening = _published(backend.listen)
        return fixed or tuple(dict.fromkeys(listening._replace(address=it.address) for it in own)) or (listening,)

    def balancer(self, backends: tuple[Backend, ...]) -> ContainerSpec:
        """The container with HAProxy, which takes over the ports of what it balances: one on each host.

        With an address that moves nothing is published, and there are two at least.
        """
        ports: list[StackPublished] = []
        networks: dict[str, None] = {}
        for backend in backends:
            container = self._stack.container(backend.container)
            networks.update(dict.fromkeys(container.networks))
            ports += (it._replace(port=it.port._replace(container=backend.listen)) for it in self._published(backend))
        check = Check("tcp", port=backends[0].listen, interval=1.0, start_period=30.0)
        certificates = (
            FileSpec(certificate_path(it), f"{CERTIFICATE}{it.container}", 0o600) for it in backends if it.certificate
        )
        spec = self._own(BALANCER, tuple(networks), check)
        uplink = next((it.interface for it in self._stack.balancers), "")
        spec = spec._replace(ports=tuple(ports), files=tuple(certificates), uplink=uplink)
        after = tuple((name, "healthy") for name in dict.fromkeys(it.container for it in backends))
        count = max(_FEWEST_MOVING, self._facts.hosts) if uplink else self._facts.hosts
        instances = tuple(spec._replace(number=number + 1) for number in range(count))
        return ContainerSpec(BALANCER, instances, after)


def _prefix(alias: str) -> str:
    """Before the names of variables about what is called so."""
    return alias.upper().replace("-", "_").replace(".", "_")


def _password_file(alias: str) -> str:
    return f"{SECRETS}/{_prefix(alias)}_PASSWORD"


def _is_balanced(published: StackPublished, ports: Collection[int]) -> bool:
    """Whether a port leads to one of these that a load balancer asks, which are TCP's."""
    return published.port.protocol == "tcp" and published.port.container in ports


def _volume_name(container: StackContainer, use: VolumeUse, number: int) -> str:
    """Each replica has a volume of its own; the first one's name stays when there are more."""
    shared = container.shares_volumes or use.read_only
    return use.source if number == 1 or shared else f"{use.source}-{number}"


def _published(port: int) -> StackPublished:
    from boxwright.model.image import Port

    return StackPublished(Port(port, "tcp", port))


def _image_check(config: ImageConfig) -> Check:
    """The image's own HEALTHCHECK."""
    found = config.healthcheck
    if found is None or not found.test or found.test[0] == "NONE":
        return Check("none")
    command = ("/bin/sh", "-c", *found.test[1:]) if found.test[0] == "CMD-SHELL" else found.test[1:]
    return Check(
        "command",
        command=command,
        interval=(found.interval or 30 * _SECOND) / _SECOND,
        timeout=(found.timeout or 30 * _SECOND) / _SECOND,
        start_period=max(found.start_period / _SECOND, 60.0),
        retries=found.retries or 3,
    )
