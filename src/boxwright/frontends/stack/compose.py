"""A Compose file becomes a stack (Compose specification). What can't be carried over is named with its line."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Map
from typing import NamedTuple

from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence, is_nothing, parse_document
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.stack import values
from boxwright.frontends.stack.composekeys import (
    LEFT_OUT,
    SERVICE_KEYS,
    TOP_KEYS,
    flag,
    mapping,
    number,
    of_type,
    pairs,
    text_of,
    texts,
)
from boxwright.frontends.stack.composetext import env_file, interpolated
from boxwright.frontends.stack.problem import of_stacks, wrong
from boxwright.frontends.stack.whole import check_stack
from boxwright.model.image import Port
from boxwright.model.stack import (
    DEFAULT_NETWORK,
    Check,
    Cluster,
    FileUse,
    SecretUse,
    Stack,
    StackBuild,
    StackContainer,
    StackNetwork,
    StackPublished,
    StackSecret,
    StackVolume,
    Update,
    VolumeUse,
)

CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
DEPLOY_LEFT_OUT = frozenset(("resources", "restart_policy", "placement", "rollback_config", "endpoint_mode"))
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


class ComposeWorld(NamedTuple):
    """What a Compose file may ask for: paths beside it, texts of env files, the environment, profiles.

    `project` is the stack's name where the file has none; `engine` is what runs it.
    """

    locate: Callable[[str, str], str | None]
    read: Callable[[str], str]
    variables: Map[str, str]
    profiles: tuple[str, ...]
    project: str
    engine: str


def read_compose(text: str, file: str, world: ComposeWorld) -> Stack:
    """The stack. Raises DefinitionError ``stack.CODE``."""
    with of_stacks():
        document = interpolated(parse_document(text, file), world.variables)
        assert isinstance(document, Mapping)  # noqa: S101  for the type checker: it was one
        return _Compose(document, file, world).stack()


class _Compose:
    """One file."""

    def __init__(self, document: Mapping, file: str, world: ComposeWorld) -> None:
        self._document = document
        self._file = file
        self._world = world
        self._notes: list[str] = []

    def stack(self) -> Stack:
        """All of it."""
        self._keys(self._document, TOP_KEYS, {"include", "extends", "models"}, "the file")
        services = mapping(self._document, "services")
        chosen = {name: it for name, it in services.items.items() if self._is_chosen(of_type(it, Mapping))}
        names = {name: self._name(name, services.keys[name]) for name in chosen}
        name = text_of(self._document, "name") or self._world.project
        if not _NAME.fullmatch(name):
            name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30] or "stack"
        containers = tuple(self._service(it, of_type(chosen[it], Mapping), names) for it in chosen)
        stack = Stack(
            name=name,
            file=self._file,
            containers=containers,
            networks=tuple(self._networks()),
            volumes=tuple(self._volumes()),
            secrets=tuple(self._secrets()),
            cluster=Cluster(self._world.engine),
            notes=tuple(self._notes),
        )
        return check_stack(stack, self._document, "services")

    def _is_chosen(self, service: Mapping) -> bool:
        wanted = texts(service, "profiles")
        return not wanted or any(it in self._world.profiles for it in wanted) or "*" in self._world.profiles

    def _name(self, name: str, place: Place) -> str:
        made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30]
        if not _NAME.fullmatch(made):
            raise wrong("value", f"{name!r} can't be a container's name", place.span, hint="letters, digits and -")
        if made != name:
            self._note(place, f"the service {name} is called {made}")
        return made

    def _note(self, place: Place, text: str) -> None:
        self._notes.append(f"{place.span}: {text}")

    def _keys(self, value: Mapping, known: frozenset[str], left_out: set[str] | frozenset[str], what: str) -> None:
        """Keys that Compose knows and we leave out are named; others are errors."""
        for key, place in value.keys.items():
            if key in known or key.startswith("x-"):
                continue
            if key not in left_out:
                hint = nearest(key, known | left_out)
                raise wrong("unknown-key", f"there is no key {key!r} in {what}", place.span, hint=hint)
            self._note(place, f"{key} of {what} is not carried over")

    # Services ---------------------------------------------------------------------------------------------------------

    def _service(self, key: str, it: Mapping, names: dict[str, str]) -> StackContainer:
        self._keys(it, SERVICE_KEYS, LEFT_OUT, f"the service {key}")
        where = mapping(self._document, "services").keys[key].span
        build = self._build(it)
        image = text_of(it, "image")
        if build is None and not image:
            raise wrong("image", f"the service {key} says neither build nor image", where)
        deploy = mapping(it, "deploy")
        self._keys(deploy, frozenset({"replicas", "update_config", "mode", "labels"}), DEPLOY_LEFT_OUT, f"{key}.deploy")
        after = tuple(self._after(it, names))
        return StackContainer(
            name=names[key],
            where=where,
            build=build,
            image=image,
            replicas=number(deploy, "replicas", number(it, "scale", 1)),
            ports=tuple(self._ports(it)),
            links=tuple(self._links(it, names)),
            after=after + tuple((target, "started") for target, _ in self._links(it, names)),
            networks=self._service_networks(it),
            health=self._health(it),
            update=self._update(mapping(deploy, "update_config")),
            volumes=tuple(self._mounts(it)),
            env=tuple(self._environment(it).items()),
            entrypoint=self._command(it, "entrypoint"),
            command=self._command(it, "command"),
            user=text_of(it, "user"),
            directory=text_of(it, "working_dir"),
            secrets=tuple(self._used_secrets(it)),
            files=tuple(self._used_configs(it)),
            stop_seconds=values.seconds(text_of(it, "stop_grace_period") or "10s"),
            restart=text_of(it, "restart").partition(":")[0],
            aliases=tuple(self._aliases(it, key, names[key])),
        )

    def _build(self, it: Mapping) -> StackBuild | None:
        given = it.items.get("build")
        if given is None or is_nothing(given):
            return None
        if isinstance(given, Scalar):
            return StackBuild(self._path(given))
        build = of_type(given, Mapping)
        known = frozenset({"context", "dockerfile", "args", "target"})
        others = {"cache_from", "cache_to", "labels", "network", "platforms", "tags", "ssh", "shm_size", "pull"}
        self._keys(build, known, others | {"no_cache", "secrets", "additional_contexts"}, "build")
        context = build.items.get("context")
        path = self._path(context) if isinstance(context, Scalar) else self._path(Scalar(".", build.place))
        args = {name: value for name, value in pairs(build, "args", self._world.variables).items() if value is not None}
        return StackBuild(path, text_of(build, "dockerfile"), text_of(build, "target"), tuple(args.items()))

    def _path(self, value: Scalar) -> str:
        found = self._world.locate(posixpath.dirname(self._file) or ".", value.text)
        if found is None:
            raise wrong("no-file", f"{value.text} is not there", value.place.span)
        return found

    def _ports(self, it: Mapping) -> Iterator[StackPublished]:
        given = it.items.get("ports")
        for item in given.items if isinstance(given, Sequence) else ():
            if isinstance(item, Scalar):
                if "-" in item.text:
                    raise wrong("value", f"{item.text}: ranges of ports are not taken", item.place.span)
                yield values.published(item.text, item.place.span)
                continue
            long = of_type(item, Mapping)
            host = text_of(long, "published")
            port = Port(number(long, "target", 0), text_of(long, "protocol") or "tcp", int(host) if host else 0)
            yield StackPublished(port, text_of(long, "host_ip"))

    def _after(self, it: Mapping, names: dict[str, str]) -> Iterator[tuple[str, str]]:
        given = it.items.get("depends_on")
        if isinstance(given, Sequence):
            for item in given.items:
                scalar = of_type(item, Scalar)
                yield self._known(scalar.text, scalar.place, names), "started"
        elif isinstance(given, Mapping):
            for name, value in given.items.items():
                said = of_type(value, Mapping) if not is_nothing(value) else Mapping({}, value.place, {})
                condition = text_of(said, "condition") or "service_started"
                if condition not in CONDITIONS:
                    hint = nearest(condition, CONDITIONS)
                    raise wrong("value", f"{condition!r} is no condition", value.place.span, hint=hint)
                if name in names or flag(said, "required", default=True):
                    yield self._known(name, given.keys[name], names), CONDITIONS[condition]

    def _links(self, it: Mapping, names: dict[str, str]) -> Iterator[tuple[str, str]]:
        given = it.items.get("links")
        for item in given.items if isinstance(given, Sequence) else ():
            scalar = of_type(item, Scalar)
            target, _, alias = scalar.text.partition(":")
            yield self._known(target, scalar.place, names), alias or target

    def _known(self, name: str, place: Place, names: dict[str, str]) -> str:
        if name not in names:
            raise wrong("link", f"there is no service {name!r}", place.span, hint=nearest(name, names))
        return names[name]

    def _service_networks(self, it: Mapping) -> tuple[str, ...]:
        if text_of(it, "network_mode") == "none":
            return ()
        given = it.items.get("networks")
        if given is None:
            return (DEFAULT_NETWORK,)
        if isinstance(given, Mapping):
            return tuple(given.items)
        return tuple(of_type(item, Scalar).text for item in of_type(given, Sequence).items)

    def _aliases(self, it: Mapping, key: str, name: str) -> Iterator[str]:
        """What it is called in the file, and in its networks."""
        if key != name:
            yield key
        given = it.items.get("networks")
        for value in given.items.values() if isinstance(given, Mapping) else ():
            if isinstance(value, Mapping):
                yield from texts(value, "aliases")

    def _health(self, it: Mapping) -> Check | None:
        given = it.items.get("healthcheck")
        if given is None:
            return None
        health = of_type(given, Mapping)
        if flag(health, "disable", default=False):
            return Check("none")
        test = health.items.get("test")
        if test is None:
            return None
        words = [of_type(item, Scalar).text for item in test.items] if isinstance(test, Sequence) else []
        if words[:1] == ["NONE"]:
            return Check("none")
        if isinstance(test, Scalar):
            words = ["CMD-SHELL", test.text]
        command = ("/bin/sh", "-c", *words[1:]) if words[0] == "CMD-SHELL" else tuple(words[1:])
        return Check(
            "command",
            command=command,
            interval=values.seconds(text_of(health, "interval") or "30s"),
            timeout=values.seconds(text_of(health, "timeout") or "30s"),
            start_period=max(60.0, values.seconds(text_of(health, "start_period"))),
            retries=number(health, "retries", 3),
        )

    def _update(self, it: Mapping) -> Update:
        left_out = {"failure_action", "monitor", "max_failure_ratio"}
        self._keys(it, frozenset({"parallelism", "delay", "order"}), left_out, "update_config")
        strategy = "recreate" if text_of(it, "order") == "stop-first" else "rolling"
        return Update(strategy, max(1, number(it, "parallelism", 1)), 0, values.seconds(text_of(it, "delay")))

    def _mounts(self, it: Mapping) -> Iterator[VolumeUse]:
        given = it.items.get("volumes")
        for item in given.items if isinstance(given, Sequence) else ():
            if isinstance(item, Scalar):
                use = values.volume(item.text, item.place.span)
                yield self._mount(use, item.place)
                continue
            long = of_type(item, Mapping)
            kind = text_of(long, "type") or "volume"
            if kind not in ("volume", "bind"):
                self._note(long.place, f"a mount of type {kind} is not carried over")
                continue
            read_only = flag(long, "read_only", default=False)
            yield self._mount(VolumeUse(text_of(long, "source"), text_of(long, "target"), read_only), long.place)

    def _mount(self, use: VolumeUse, place: Place) -> VolumeUse:
        if not use.target:
            raise wrong("volume", f"where should {use.source} be mounted?", place.span)
        if values.is_path(use.source) or use.source.startswith("~"):
            return use._replace(source=self._path(Scalar(use.source, place)))
        return use

    def _environment(self, it: Mapping) -> dict[str, str]:
        env: dict[str, str] = {}
        for name in texts(it, "env_file"):
            place = it.items["env_file"].place
            env |= env_file(self._world.read(self._path(Scalar(name, place))))
        given = pairs(it, "environment", self._world.variables)
        return env | {name: value for name, value in given.items() if value is not None}

    def _command(self, it: Mapping, key: str) -> tuple[str, ...] | None:
        given = it.items.get(key)
        if given is None or is_nothing(given):
            return None
        if isinstance(given, Scalar):
            return values.words(given.text, given.place.span)
        return tuple(of_type(item, Scalar).text for item in of_type(given, Sequence).items)

    def _used_secrets(self, it: Mapping) -> Iterator[SecretUse]:
        for name, target in self._used(it, "secrets"):
            yield SecretUse(name, target if target.startswith("/") else f"/run/secrets/{target or name}")

    def _used_configs(self, it: Mapping) -> Iterator[FileUse]:
        configs = mapping(self._document, "configs")
        for name, target in self._used(it, "configs"):
            config = configs.items.get(name)
            if config is None:
                where = it.items["configs"].place.span
                raise wrong("secret", f"there is no config {name!r}", where, hint=nearest(name, configs.items))
            file = of_type(config, Mapping).items.get("file")
            if not isinstance(file, Scalar):
                self._note(config.place, f"the config {name} comes from no file: it is not carried over")
                continue
            yield FileUse(self._path(file), target if target.startswith("/") else f"/{target or name}")

    def _used(self, it: Mapping, key: str) -> Iterator[tuple[str, str]]:
        given = it.items.get(key)
        for item in given.items if isinstance(given, Sequence) else ():
            if isinstance(item, Scalar):
                yield item.text, ""
            else:
                long = of_type(item, Mapping)
                yield text_of(long, "source"), text_of(long, "target")

    # The rest ---------------------------------------------------------------------------------------------------------

    def _networks(self) -> Iterator[StackNetwork]:
        known = frozenset({"internal", "ipam", "driver", "name"})
        for name, value in mapping(self._document, "networks").items.items():
            network = Mapping({}, value.place, {}) if is_nothing(value) else of_type(value, Mapping)
            left_out = {"external", "driver_opts", "attachable", "labels", "enable_ipv6"}
            self._keys(network, known, left_out, f"the network {name}")
            configs = mapping(network, "ipam").items.get("config")
            items = configs.items if isinstance(configs, Sequence) else ()
            subnets = [text_of(of_type(it, Mapping), "subnet") for it in items]
            yield StackNetwork(name, next(iter(subnets), ""), internal=flag(network, "internal", default=False))

    def _volumes(self) -> Iterator[StackVolume]:
        for name, value in mapping(self._document, "volumes").items.items():
            volume = Mapping({}, value.place, {}) if is_nothing(value) else of_type(value, Mapping)
            left_out = {"driver", "driver_opts", "external", "labels"}
            self._keys(volume, frozenset({"name"}), left_out, f"the volume {name}")
            yield StackVolume(name)

    def _secrets(self) -> Iterator[StackSecret]:
        for name, value in mapping(self._document, "secrets").items.items():
            secret = of_type(value, Mapping)
            self._keys(secret, frozenset({"file", "environment", "name"}), {"external"}, f"the secret {name}")
            file = secret.items.get("file")
            path = self._path(file) if isinstance(file, Scalar) else ""
            yield StackSecret(name, path, text_of(secret, "environment"))
