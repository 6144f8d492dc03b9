"""A Compose file becomes a stack (Compose specification). What can't be carried over is named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from boxwright.frontends.package.document import Mapping, Place, Scalar, is_nothing, parse_document
from boxwright.frontends.stack import composekeys
from boxwright.frontends.stack.composemounts import ComposeWorld, Source
from boxwright.frontends.stack.composeservice import Services, called, is_wanted
from boxwright.frontends.stack.composetext import interpolated, substitute
from boxwright.frontends.stack.composevalues import (
    Notes,
    flag,
    given,
    items_of,
    mapping,
    mapping_or_empty,
    of_type,
    place_in,
    text_of,
)
from boxwright.frontends.stack.problem import of_stacks, wrong
from boxwright.frontends.stack.whole import check_stack
from boxwright.model.span import Span
from boxwright.model.stack import Cluster, Stack, StackNetwork, StackSecret, StackVolume

PROJECT = "COMPOSE_PROJECT_NAME"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_DECLARED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_compose(text: str, file: str, world: ComposeWorld) -> Stack:
    """The stack. Raises DefinitionError ``stack.CODE``."""
    with of_stacks():
        try:
            return _read(parse_document(text, file), file, world)
        except RecursionError as error:  # aliases of aliases
            raise wrong("yaml", "too many values inside of each other", Span(file, 1)) from error


def _read(document: Mapping, file: str, world: ComposeWorld) -> Stack:
    notes = Notes()
    unset: set[str] = set()

    def tell(name: str, place: Place) -> None:
        if name not in unset:
            unset.add(name)
            notes.note(place, f"{name} is not set: it is empty")

    own = document.items.get("name")
    named = "" if own is None or is_nothing(own) else of_type(own, Scalar).text
    if "$" in named and own is not None:
        named = substitute(named, world.variables, own.place.span, lambda name: tell(name, own.place))
    project = world.project or named or world.directory
    world = world._replace(variables={PROJECT: project, **world.variables})
    whole = of_type(interpolated(document, world.variables, tell), Mapping)
    return _File(Source(whole, file, world, notes), project).stack()


class _File:
    """One file."""

    def __init__(self, source: Source, project: str) -> None:
        self._source = source
        self._document = source.document
        self._notes = source.notes
        self._project = project

    def stack(self) -> Stack:
        """All of it."""
        self._notes.check(self._document, composekeys.TOP, "the file")
        services = mapping(self._document, "services")
        every = {key: of_type(it, Mapping) for key, it in services.items.items()}
        wanted = {key: it for key, it in every.items() if is_wanted(it, self._source.world.profiles)}
        names = called(services.keys, wanted, _NAME)
        for key, name in names.items():
            if key != name:
                self._notes.note(services.keys[key], f"the service {key} is called {name}")
        reader = Services(self._source, wanted, names, services.keys)
        containers = tuple(reader.container(key) for key in wanted)
        stack = Stack(
            name=self._name(),
            file=self._source.file,
            containers=containers,
            networks=tuple(self._network(name, it) for name, it in self._declared("networks")),
            volumes=tuple(self._volume(name, it) for name, it in self._declared("volumes")),
            secrets=tuple(self._secret(name, it) for name, it in self._declared("secrets")),
            cluster=Cluster(self._source.world.engine),
        )
        for name, config in self._declared("configs"):
            self._notes.check(config, composekeys.CONFIG, f"the config {name}")
        return check_stack(stack._replace(notes=tuple(self._notes.said)), self._document, "services")

    def _name(self) -> str:
        if _NAME.fullmatch(self._project):
            return self._project
        made = re.sub(r"[^a-z0-9]+", "-", self._project.lower()).strip("-0123456789")[:30].rstrip("-") or "stack"
        if text_of(self._document, "name") == self._project:
            self._notes.note(place_in(self._document, "name"), f"the stack is called {made}")
        return made

    def _declared(self, key: str) -> Iterator[tuple[str, Mapping]]:
        """The entries of a part of the file, with names that all engines take."""
        part = mapping(self._document, key)
        for name, value in part.items.items():
            if name.startswith("x-") and key == "networks":
                continue
            if not _DECLARED.fullmatch(name):
                hint = "letters, digits, . _ -"
                raise wrong("value", f"{name!r} can't be a name here", part.keys[name].span, hint=hint)
            found = mapping_or_empty(value)
            own = text_of(found, "name")
            if own not in ("", f"{self._project}_{name}"):  # what Compose calls it anyway
                self._notes.leave_out(found.keys["name"], f"the name {own} of {name} in {key}")
            yield name, found

    def _network(self, name: str, it: Mapping) -> StackNetwork:
        what = f"the network {name}"
        self._notes.check(it, composekeys.NETWORK, what)
        ipam = mapping(it, "ipam")
        self._notes.check(ipam, composekeys.IPAM, f"ipam of {what}")
        chosen = ""
        for item in items_of(ipam, "config"):
            part = of_type(item, Mapping)
            self._notes.check(part, composekeys.SUBNET, f"ipam of {what}")
            subnet = text_of(part, "subnet")
            if subnet and (chosen or ":" in subnet):
                self._notes.leave_out(place_in(part, "subnet"), f"the subnet {subnet} of {what}")
            else:
                chosen = chosen or subnet
        return StackNetwork(name, chosen, internal=flag(it, "internal", default=False))

    def _volume(self, name: str, it: Mapping) -> StackVolume:
        self._notes.check(it, composekeys.VOLUME, f"the volume {name}")
        return StackVolume(name)

    def _secret(self, name: str, it: Mapping) -> StackSecret:
        self._notes.check(it, composekeys.SECRET, f"the secret {name}")
        file, variable = given(it, "file"), text_of(it, "environment")
        if file is not None and variable:
            raise wrong("secret", "a secret comes from a file or from environment", it.place.span)
        if file is None and not variable:
            self._notes.note(it.place, f"the secret {name} comes from no file and no variable: it is made")
        path = "" if file is None else self._source.find(of_type(file, Scalar).text, file.place)
        return StackSecret(name, path, variable)
