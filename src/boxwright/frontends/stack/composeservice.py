"""A service of a Compose file becomes a container of the stack (Compose specification, "Services")."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from collections.abc import Mapping as Map

from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.stack import composekeys, composemounts, values
from boxwright.frontends.stack.composemounts import Source
from boxwright.frontends.stack.composevalues import (
    duration,
    flag,
    given,
    items_of,
    mapping,
    mapping_or_empty,
    number,
    of_type,
    one_of,
    pairs,
    place_in,
    text_of,
    texts,
)
from boxwright.frontends.stack.envfile import env_file, raw_env_file
from boxwright.frontends.stack.problem import wrong
from boxwright.model.stack import DEFAULT_NETWORK, Check, StackBuild, StackContainer, Update

CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
COMPLETED = "service_completed_successfully"
ONCE, ON_FAILURE, ALWAYS = "no", "on-failure", "always"
RESTARTS = (ONCE, ON_FAILURE, ALWAYS, "unless-stopped")
POLICIES = {"none": ONCE, "on-failure": ON_FAILURE, "any": ALWAYS}


class Services:
    """The services of a file that are wanted. `names` are what they are called in the stack."""

    def __init__(
        self, source: Source, services: Map[str, Mapping], names: Map[str, str], keys: Map[str, Place]
    ) -> None:
        self._source = source
        self._services = services
        self._names = names
        self._keys = keys
        self._waited_for = frozenset(self._completing())

    def _completing(self) -> Iterator[str]:
        """The services whose end others wait for."""
        for it in self._services.values():
            others = given(it, "depends_on")
            for name, said in others.items.items() if isinstance(others, Mapping) else ():
                if isinstance(said, Mapping) and text_of(said, "condition") == COMPLETED:
                    yield name

    def container(self, key: str) -> StackContainer:
        """One of them."""
        it, notes, what = self._services[key], self._source.notes, f"the service {key}"
        notes.check(it, composekeys.SERVICE, what)
        build, image = self._build(it, what), text_of(it, "image")
        if build is None and not image:
            raise wrong("image", f"{what} says neither build nor image", self._keys[key].span)
        deploy = mapping(it, "deploy")
        notes.check(deploy, composekeys.DEPLOY, f"{key}.deploy")
        mode = one_of(deploy, "mode", ("replicated", "global", "replicated-job", "global-job"), "replicated")
        if mode != "replicated":
            notes.leave_out(place_in(deploy, "mode"), f"mode {mode} of {key}.deploy")
        replicas = number(deploy, "replicas", number(it, "scale", 1))
        links = tuple(self._links(it))
        ports = tuple(composemounts.ports(self._source, it, what))
        return StackContainer(
            name=self._names[key],
            where=self._keys[key].span,
            build=build,
            image=image,
            replicas=replicas,
            ports=tuple(port for port, _ in ports),
            links=links,
            after=(*self._after(it, what), *((target, "started") for target, _ in links)),
            networks=tuple(self._networks(it, what)),
            health=self._health(key, it, what),
            update=self._update(mapping(deploy, "update_config"), key, replicas),
            volumes=tuple(composemounts.mounts(self._source, it, what)),
            env=tuple(self._environment(it, what).items()),
            entrypoint=self._command(it, "entrypoint"),
            command=self._command(it, "command"),
            user=text_of(it, "user"),
            directory=text_of(it, "working_dir"),
            secrets=tuple(composemounts.secrets(self._source, it, what)),
            files=tuple(composemounts.configs(self._source, it, what)),
            stop_seconds=duration(it, "stop_grace_period", 10.0),
            restart=self._restart(it, key),
            aliases=tuple(self._aliases(it, key)),
            shares_volumes=True,
            port_places=tuple(where for _, where in ports),
        )

    # The image --------------------------------------------------------------------------------------------------------

    def _build(self, it: Mapping, what: str) -> StackBuild | None:
        found = given(it, "build")
        if found is None:
            return None
        if isinstance(found, Scalar):
            return StackBuild(self._source.find(found.text, found.place))
        build = of_type(found, Mapping)
        self._source.notes.check(build, composekeys.BUILD, f"build of {what}")
        if given(build, "dockerfile_inline") is not None:
            where = place_in(build, "dockerfile_inline").span
            raise wrong("value", "a recipe inside of a Compose file is not taken", where, hint="dockerfile: FILE")
        path = self._source.find(text_of(build, "context") or ".", place_in(build, "context"))
        args = pairs(build, "args", self._source.world.variables)
        known = tuple((name, value) for name, value in args.items() if value is not None)
        return StackBuild(path, text_of(build, "dockerfile"), text_of(build, "target"), known)

    def _command(self, it: Mapping, key: str) -> tuple[str, ...] | None:
        found = given(it, key)
        if found is None:
            return None
        if isinstance(found, Scalar):
            return values.words(found.text, found.place.span)
        return tuple(of_type(item, Scalar).text for item in of_type(found, Sequence).items)

    # Others -----------------------------------------------------------------------------------------------------------

    def _after(self, it: Mapping, what: str) -> Iterator[tuple[str, str]]:
        others = given(it, "depends_on")
        if others is None:
            return
        if not isinstance(others, Mapping):
            for item in of_type(others, Sequence).items:
                scalar = of_type(item, Scalar)
                yield self._known(scalar.text, scalar.place), "started"
            return
        for name, value in others.items.items():
            said = mapping_or_empty(value)
            self._source.notes.check(said, composekeys.DEPENDENCY, f"depends_on of {what}")
            condition = text_of(said, "condition") or "service_started"
            if condition not in CONDITIONS:
                hint = nearest(condition, CONDITIONS)
                raise wrong("value", f"{condition!r} is no condition", value.place.span, hint=hint)
            if name not in self._names and not flag(said, "required", default=True):
                continue
            target = self._known(name, others.keys[name])
            if condition == COMPLETED and self._restarts(self._services[name]) not in (ONCE, ON_FAILURE):
                message = f"{name} is started again whenever it ends: nobody can wait for that"
                raise wrong("value", message, value.place.span, hint=f'restart: "no" for {name}')
            yield target, CONDITIONS[condition]

    def _links(self, it: Mapping) -> Iterator[tuple[str, str]]:
        for item in items_of(it, "links"):
            scalar = of_type(item, Scalar)
            target, _, alias = scalar.text.partition(":")
            yield self._known(target, scalar.place), values.host_name(alias or target, scalar.place.span)

    def _known(self, name: str, place: Place) -> str:
        if name not in self._names:
            raise wrong("link", f"there is no service {name!r}", place.span, hint=nearest(name, self._names))
        return self._names[name]

    # Networks ---------------------------------------------------------------------------------------------------------

    def _networks(self, it: Mapping, what: str) -> Iterator[str]:
        mode = text_of(it, "network_mode")
        if mode == "none":
            return
        if mode:
            self._source.notes.leave_out(place_in(it, "network_mode"), f"network_mode {mode} of {what}")
        found = given(it, "networks")
        if found is None:
            yield DEFAULT_NETWORK
            return
        declared = {DEFAULT_NETWORK, *mapping(self._source.document, "networks").items}
        if isinstance(found, Mapping):
            named = [(name, found.keys[name]) for name in found.items]
        else:
            items = (of_type(item, Scalar) for item in of_type(found, Sequence).items)
            named = [(item.text, item.place) for item in items]
        for name, place in named:
            if name not in declared:
                hint = nearest(name, declared)
                raise wrong("network", f"there is no network {name!r}", place.span, hint=hint)
            yield name

    def _aliases(self, it: Mapping, key: str) -> Iterator[str]:
        """What it is called in the file, and in its networks."""
        if key != self._names[key]:
            yield key
        found = given(it, "networks")
        for name, value in found.items.items() if isinstance(found, Mapping) else ():
            said = mapping_or_empty(value)
            self._source.notes.check(said, composekeys.SERVICE_NETWORK, f"the network {name} of the service {key}")
            yield from (values.host_name(alias, said.place.span) for alias in texts(said, "aliases"))

    # How it runs ------------------------------------------------------------------------------------------------------

    def _health(self, key: str, it: Mapping, what: str) -> Check | None:
        health = mapping(it, "healthcheck")
        self._source.notes.check(health, composekeys.HEALTHCHECK, f"healthcheck of {what}")
        if flag(health, "disable", default=False):
            return Check("none")
        test = given(health, "test")
        if test is None:
            for name in ("interval", "timeout", "retries", "start_period"):
                if given(health, name) is not None:
                    said = f"{name} of healthcheck of {what}, which says no test,"
                    self._source.notes.leave_out(health.keys[name], said)
            # An image's check is not that of a job which others wait for.
            return Check("none") if key in self._waited_for else None
        command = _test(test)
        if not command:
            return Check("none")
        return Check(
            "command",
            command=command,
            interval=duration(health, "interval", 30.0),
            timeout=duration(health, "timeout", 30.0),
            start_period=max(60.0, duration(health, "start_period", 0.0)),
            retries=number(health, "retries", 3) or 3,
        )

    def _update(self, it: Mapping, key: str, replicas: int) -> Update:
        self._source.notes.check(it, composekeys.UPDATE, f"update_config of {key}.deploy")
        action = one_of(it, "failure_action", ("pause", "continue", "rollback"), "rollback")
        if action != "rollback":
            self._source.notes.leave_out(place_in(it, "failure_action"), f"failure_action {action} of {key}.deploy")
        order = one_of(it, "order", ("start-first", "stop-first"), "start-first")
        parallel = number(it, "parallelism", 1) or max(1, replicas)
        return Update("recreate" if order == "stop-first" else "rolling", parallel, 0, duration(it, "delay", 0.0))

    def _restart(self, it: Mapping, key: str) -> str:
        """What is said of it, with what is not carried over of that."""
        policy = mapping(mapping(it, "deploy"), "restart_policy")
        self._source.notes.check(policy, composekeys.RESTART_POLICY, f"restart_policy of {key}.deploy")
        _, colon, times = text_of(it, "restart").partition(":")
        if colon and given(mapping(it, "deploy"), "restart_policy") is None:
            place = place_in(it, "restart")
            self._source.notes.leave_out(place, f"the number {times} of restart of the service {key}")
        return self._restarts(it)

    def _restarts(self, it: Mapping) -> str:
        """Whether it is started again when it ends. Raises `stack.value`."""
        deploy = mapping(it, "deploy")
        if given(deploy, "restart_policy") is not None:
            return POLICIES[one_of(mapping(deploy, "restart_policy"), "condition", tuple(POLICIES), "any")]
        text = text_of(it, "restart") or ONCE
        said, colon, times = text.partition(":")
        if said not in RESTARTS or (colon and not (said == ON_FAILURE and times.isascii() and times.isdecimal())):
            hint = nearest(said, RESTARTS)
            raise wrong("value", f"{text!r} is no restart", place_in(it, "restart").span, hint=hint)
        return said

    def _environment(self, it: Mapping, what: str) -> dict[str, str]:
        world = self._source.world
        own = {name: value for name, value in pairs(it, "environment", world.variables).items() if value is not None}
        env: dict[str, str] = {}
        for name, place, required, raw in self._env_files(it, what):
            path = self._source.find(name, place) if required else self._source.locate(name)
            if path is not None:
                text = world.read(path)
                env |= raw_env_file(text) if raw else env_file(text, path, world.variables, {**own, **env})
        return env | own

    def _env_files(self, it: Mapping, what: str) -> Iterator[tuple[str, Place, bool, bool]]:
        """Each with its place, whether it must be there, and whether it is raw."""
        found = given(it, "env_file")
        if found is None:
            return
        for item in (found,) if isinstance(found, Scalar) else of_type(found, Sequence).items:
            if isinstance(item, Scalar):
                yield item.text, item.place, True, False
                continue
            long = of_type(item, Mapping)
            self._source.notes.check(long, composekeys.ENV_FILE, f"env_file of {what}")
            path = text_of(long, "path")
            if not path:
                raise wrong("no-file", "which file?", long.place.span, hint="path: FILE")
            raw = one_of(long, "format", ("raw",)) == "raw"
            yield path, place_in(long, "path"), flag(long, "required", default=True), raw


def _test(test: Scalar | Sequence | Mapping) -> tuple[str, ...]:
    """The command of a check; nothing for none. Raises `stack.healthcheck`."""
    hint = "test: [CMD, PROGRAM, ARGUMENT...], [CMD-SHELL, COMMAND] or [NONE]"
    if isinstance(test, Scalar):
        if test.text == "NONE" or not test.text.strip():
            raise wrong("healthcheck", f"the command of a check is {test.text!r}", test.place.span, hint=hint)
        return "/bin/sh", "-c", test.text
    words = [of_type(item, Scalar).text for item in of_type(test, Sequence).items]
    kind, arguments = (words[0], tuple(words[1:])) if words else ("", ())
    if kind == "NONE":
        return ()
    if kind not in ("CMD", "CMD-SHELL") or not arguments:
        raise wrong("healthcheck", "this is no check", test.place.span, hint=hint)
    return arguments if kind == "CMD" else ("/bin/sh", "-c", *arguments)


def called(keys: Map[str, Place], wanted: Collection[str], valid: re.Pattern[str]) -> dict[str, str]:
    """What each service is called in the stack. Raises `stack.value`, or `stack.name` where two are called the same."""
    names: dict[str, str] = {}
    for key in wanted:
        made = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:30]
        if not re.fullmatch(r"[A-Za-z0-9._-]+", key) or not valid.fullmatch(made):
            hint = "letters, digits and -"
            raise wrong("value", f"{key!r} can't be a container's name", keys[key].span, hint=hint)
        other = next((it for it, name in names.items() if name == made), None)
        if other is not None:
            message = f"the services {other} and {key} would both be called {made}"
            raise wrong("name", message, keys[key].span, hint="choose another name")
        names[key] = made
    return names


def is_wanted(service: Mapping, profiles: Collection[str]) -> bool:
    """Whether it has no profiles, or one of these; ``*`` are all."""
    wanted = texts(service, "profiles")
    return not wanted or "*" in profiles or any(it in profiles for it in wanted)
