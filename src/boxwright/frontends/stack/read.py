"""From an autopilot.yaml's text to a stack: each part checked by the schema first, then turned into the model."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from boxwright.frontends.package.convert import convert, key_place, place_of
from boxwright.frontends.package.document import Mapping, parse_document
from boxwright.frontends.recipe.dbase import SERVERS
from boxwright.frontends.stack import values
from boxwright.frontends.stack.problem import of_stacks, wrong
from boxwright.frontends.stack.schema import (
    ContainerPart,
    DatabasePart,
    HealthPart,
    StackPart,
    StackVolumePart,
    VolumePart,
)
from boxwright.frontends.stack.whole import check_stack
from boxwright.model.span import Span
from boxwright.model.stack import (
    DEFAULT_NETWORK,
    Balancer,
    Check,
    Cluster,
    FileUse,
    Placement,
    SecretUse,
    Stack,
    StackBuild,
    StackBundle,
    StackContainer,
    StackDatabase,
    StackNetwork,
    StackSecret,
    StackVolume,
    Update,
    VolumeUse,
    is_path,
)

Locate = Callable[[str, str], "str | None"]
HEALTHY = "healthy"


def read_stack(text: str, file: str, locate: Locate) -> Stack:
    """The stack. Raises DefinitionError ``stack.CODE``.

    `locate` makes a path of a directory and what is written of a path from there; None where that is not there.
    """
    with of_stacks():
        document = parse_document(text, file)
        part = convert(document, StackPart)
        # Whoever names no network is in the only one; where there are several, in one more that nobody declares.
        networks = tuple(part.networks) if len(part.networks) == 1 else (DEFAULT_NETWORK,)
        reader = _Reader(document, locate, networks)
        containers = tuple(reader.container(name, it) for name, it in part.containers.items())
        stack = Stack(
            name=part.name,
            file=file,
            containers=containers,
            networks=tuple(
                StackNetwork(name, it.subnet, it.across, it.internal, it.allow, it.deny)
                for name, it in part.networks.items()
            ),
            balancers=tuple(reader.balancers(part)),
            volumes=tuple(reader.volumes(part)),
            secrets=tuple(reader.secrets(part)),
            cluster=Cluster(part.cluster.engine, part.cluster.remote),
            resolver=part.resolver,
        )
        return check_stack(stack, document)


class _Reader:
    """One document."""

    def __init__(self, document: Mapping, locate: Locate, networks: tuple[str, ...]) -> None:
        self._document = document
        self._locate = locate
        self._networks = networks

    def container(self, name: str, part: ContainerPart) -> StackContainer:
        """One entry of `containers`."""
        where = key_place(self._document, "containers", name).span
        self._one_of(name, part, where)
        links = tuple(self._link(text, name, number) for number, text in enumerate(part.links))
        return StackContainer(
            name=name,
            where=where,
            build=self._build(name, part),
            image=part.image,
            database=self._database(name, part.database),
            bundle=StackBundle(part.bundle.base, part.bundle.url, part.bundle.sha256) if part.bundle else None,
            replicas=part.replicas,
            ports=tuple(
                values.published(text, self._place("containers", name, "ports", number))
                for number, text in enumerate(part.ports)
            ),
            port_places=tuple(self._place("containers", name, "ports", number) for number in range(len(part.ports))),
            links=links,
            after=tuple((target, HEALTHY) for target, _ in links),
            networks=self._networks if part.networks is None else part.networks,
            health=self._health(name, part.healthcheck),
            update=Update(
                part.update.strategy, part.update.parallel, part.update.canary, values.seconds(part.update.wait)
            ),
            placement=Placement(part.placement.spread or "", part.placement.on),
            volumes=self._volumes(name, part),
            env=tuple(part.environment.items()),
            entrypoint=self._command(name, "entrypoint", part.entrypoint),
            command=self._command(name, "command", part.command),
            user=part.user,
            directory=part.directory,
            secrets=tuple(
                SecretUse(it, f"/run/secrets/{it}")
                if isinstance(it, str)
                else SecretUse(it.name, it.target or f"/run/secrets/{it.name}")
                for it in part.secrets
            ),
            files=tuple(self._files(name, part)),
            stop_seconds=values.seconds(part.stop_grace),
            restart=part.restart,
            failover=part.failover,
            pool=part.pool,
        )

    def _one_of(self, name: str, part: ContainerPart, where: Span) -> None:
        given = [key for key in ("build", "database", "bundle") if getattr(part, key) is not None]
        given += ["image"] if part.image and part.build is None else []
        if len(given) != 1:
            said = f"has both {' and '.join(sorted(given))}" if given else "says nothing of its image"
            hint = "one of build, image, database and bundle"
            raise wrong("image", f"the container {name} {said}", where, hint=hint)

    def _build(self, name: str, part: ContainerPart) -> StackBuild | None:
        if part.build is None:
            return None
        given = part.build
        if isinstance(given, str):
            return StackBuild(self._path(given, "containers", name, "build"))
        context = self._path(given.context, "containers", name, "build", "context")
        return StackBuild(context, given.file, given.target, tuple(given.args.items()))

    def _database(self, name: str, given: str | DatabasePart | None) -> StackDatabase | None:
        if given is None:
            return None
        kind, version = (given, "") if isinstance(given, str) else (given.type, given.version)
        known = SERVERS[kind].suites
        if version and not any(f"{it}.".startswith(f"{version}.") for it in known):
            where = self._place("containers", name, "database", "version")
            raise wrong("version", f"there is no {kind} {version}", where, hint=f"known: {', '.join(known)}")
        found = next(it for it in known if not version or f"{it}.".startswith(f"{version}."))
        return StackDatabase(kind, found)

    def _link(self, text: str, name: str, number: int) -> tuple[str, str]:
        """``NAME`` or ``NAME:ALIAS``; the alias is a name inside the container."""
        target, _, alias = text.partition(":")
        where = self._place("containers", name, "links", number)
        if not target:
            raise wrong("value", f"{text!r} is no link", where)
        return target, values.host_name(alias, where) if alias else target

    def _health(self, name: str, part: HealthPart | None) -> Check | None:
        if part is None:
            return None
        kinds = [key for key in ("http", "tcp", "command", "disable") if getattr(part, key)]
        where = key_place(self._document, "containers", name, "healthcheck").span
        if len(kinds) > 1:
            raise wrong("healthcheck", f"a check is one of {' and '.join(kinds)}", where)
        if not kinds and part.port is None:
            raise wrong("healthcheck", "a check is one of http, tcp, command and disable", where)
        kind = "none" if kinds == ["disable"] else kinds[0] if kinds else "tcp"
        command = ("/bin/sh", "-c", part.command) if isinstance(part.command, str) else part.command
        return Check(
            kind,
            part.http,
            part.port or 0,
            command if kind == "command" else (),
            interval=values.seconds(part.interval),
            timeout=values.seconds(part.timeout),
            start_period=values.seconds(part.start_period),
            retries=part.retries,
        )

    def _command(self, name: str, key: str, given: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if given is None else values.words(given, self._place("containers", name, key))

    def _volumes(self, name: str, part: ContainerPart) -> tuple[VolumeUse, ...]:
        found: list[VolumeUse] = []
        if part.volume is not None:
            found.append(self._volume(part.volume, "containers", name, "volume"))
        for number, one in enumerate(part.volumes):
            found.append(self._volume(one, "containers", name, "volumes", number))
        for number, one_use in enumerate(found):
            if not one_use.target and part.database is None:
                key = "volume" if part.volume is not None and number == 0 else "volumes"
                hint = f"{one_use.source}:/var/lib/{name}"
                where = self._place("containers", name, key)
                raise wrong("volume", f"where should the volume {one_use.source} be mounted?", where, hint=hint)
        return tuple(found)

    def _volume(self, given: str | VolumePart, *place: str | int) -> VolumeUse:
        if isinstance(given, str):
            use = values.volume(given, self._place(*place))
        else:
            use = VolumeUse(given.name, given.target, given.read_only)
        if not is_path(use.source):
            return use
        return use._replace(source=self._path(use.source, *place))

    def _files(self, name: str, part: ContainerPart) -> Iterator[FileUse]:
        for number, it in enumerate(part.files):
            source = self._path(it.src, "containers", name, "files", number, "src")
            yield FileUse(source, it.dest, int(it.mode, 8))

    def balancers(self, part: StackPart) -> Iterator[Balancer]:
        """The entries of `loadbalancer`."""
        for name, it in part.loadbalancer.items():
            certificate = self._path(it.tls, "loadbalancer", name, "tls") if it.tls else ""
            weights = tuple(it.weights.items())
            drain = values.seconds(it.drain)
            found = Balancer(name, it.listen, it.port or 0, it.algorithm, it.mode, drain, weights, certificate)
            yield found._replace(address=it.address, interface=it.interface)

    def volumes(self, part: StackPart) -> Iterator[StackVolume]:
        """The entries of `volumes`, with the sizes that containers name."""
        found = {name: self._declared(name, it) for name, it in part.volumes.items()}
        for container in part.containers.values():
            for use in (container.volume, *container.volumes):
                if isinstance(use, VolumePart) and use.size and not is_path(use.name):
                    known = found.get(use.name, StackVolume(use.name))
                    found[use.name] = known._replace(size=known.size or values.size(use.size))
        yield from found.values()

    def _declared(self, name: str, part: StackVolumePart) -> StackVolume:
        copied = values.seconds(part.copy_every)
        taken = values.seconds(part.snapshots.every) if part.snapshots else 0.0
        for seconds, key in ((copied, "copy-every"), (taken if part.snapshots else 1.0, "snapshots")):
            if seconds < 1:
                raise wrong("value", "once a second is the most often", self._place("volumes", name, key))
        found = StackVolume(name, part.pool, values.size(part.size), part.replicate, copied, taken)
        return found._replace(snapshot_keep=part.snapshots.keep) if part.snapshots else found

    def secrets(self, part: StackPart) -> Iterator[StackSecret]:
        """The entries of `secrets`, and those that are made."""
        for name, it in part.secrets.items():
            if it.file and it.env:
                raise wrong("secret", "a secret comes from a file or from env", self._place("secrets", name))
            yield StackSecret(name, self._path(it.file, "secrets", name, "file") if it.file else "", it.env)

    def _path(self, text: str, *place: str | int) -> str:
        """A path beside the definition. Raises `stack.no-file`."""
        where = self._place(*place)
        path = self._locate(posixpath.dirname(where.file) or ".", text)
        if path is None:
            raise wrong("no-file", f"{text} is not there", where)
        return path

    def _place(self, *path: str | int) -> Span:
        return place_of(self._document, *path).span
