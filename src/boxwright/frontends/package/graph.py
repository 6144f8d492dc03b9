"""The graph of packages: each definition once, what it may see as its inputs, the toolchain first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boxwright.errors import DefinitionError
from boxwright.frontends.package.problem import wrong
from boxwright.frontends.package.wanted import Found, Requirement, Resolved, definition_name
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base, Step

Identity = tuple[str, str, str]
"""A requirement's definition, version, and distribution package."""


class PackageGraph:
    """Builds the nodes of packages, for graphs of packages alone and for those that compose them."""

    def __init__(self, resolve: Callable[[Found], Resolved], platform: str, nodes: Sequence[Node] = ()) -> None:
        self.nodes: list[Node] = list(nodes)
        self._resolve = resolve
        self._platform = platform
        self._resolved: dict[Identity, Resolved] = {}
        self._positions: dict[Identity, int] = {}
        self._toolchains: dict[tuple[str, str], int] = {}
        self._closures: dict[int, tuple[int, ...]] = {}
        self._names: dict[int, str] = {}
        self._contents: dict[str, str] = {}

    def add(self, found: Found) -> int:
        """The position of a package's node; everything that it needs stands before it. Raises `package.cycle`."""
        target = (found.path, found.version, "")
        pending: list[tuple[Identity, bool]] = [(target, False)]
        open_now: dict[Identity, None] = {}
        while pending:
            identity, done = pending.pop()
            if identity in self._positions:
                continue
            if done:
                del open_now[identity]
                self._place(identity)
                continue
            if identity in open_now:
                continue
            open_now[identity] = None
            pending.append((identity, True))
            for requirement in self._needs(identity):
                if requirement.debian:
                    self._contents[requirement.debian] = requirement.content
                if requirement[:3] in open_now:
                    raise self._cycle(requirement, open_now)
                pending.append((requirement[:3], False))
        return self._positions[target]

    def add_test(self, position: int) -> int:
        """The node that tests a package, with its closure and what the test needs; the package's own without a test."""
        resolved = self.resolved(position)
        if resolved is None or resolved.test is None:
            return position
        needs = [self.add_requirement(need) for need in resolved.test_requirements]
        places = dict.fromkeys(place for one in (position, *needs) for place in self.closure(one))
        name = self._names[position]
        inputs = (*places, self._toolchain(resolved))
        return self.add_node(resolved.test, inputs, f"test {name}", name, Span(resolved.path, 1))

    def add_requirement(self, needed: Requirement) -> int:
        """The position of what a definition or a container asks for."""
        if not needed.debian:
            return self.add(Found(needed.path, needed.version))
        self._contents[needed.debian] = needed.content
        if needed[:3] not in self._positions:
            self._place(needed[:3])
        return self._positions[needed[:3]]

    def closure(self, position: int) -> tuple[int, ...]:
        """A package's node and those of everything that it needs when it runs, itself first."""
        return (position, *self._closures[position])

    def resolved(self, position: int) -> Resolved | None:
        """What was decided about the definition of a node; None for a distribution's package."""
        identity = next(key for key, place in self._positions.items() if place == position)
        return self._resolved.get(identity)

    def name(self, position: int) -> str:
        """What the package is called."""
        return self._names[position]

    def graph(self, target: int, config: ImageConfig | None = None) -> Graph:
        """All nodes as a graph that makes `target`."""
        return Graph(tuple(self.nodes), target, config or ImageConfig(self._platform.split("/")[1]))

    def add_node(self, step: Step, inputs: tuple[int, ...], title: str, stage: str, where: Span) -> int:
        """Add any other node."""
        self.nodes.append(Node(step, inputs, title, stage, where))
        return len(self.nodes) - 1

    def _needs(self, identity: Identity) -> tuple[Requirement, ...]:
        path, version, debian = identity
        if debian:
            return ()
        resolved = self._resolved.get(identity)
        if resolved is None:
            resolved = self._resolved[identity] = self._resolve(Found(path, version))
        return resolved.requirements

    def _place(self, identity: Identity) -> None:
        if identity[2]:
            self._positions[identity] = position = self._debian(identity[2])
            self._closures[position] = ()
            return
        resolved = self._resolved[identity]
        direct = [self._positions[requirement[:3]] for requirement in resolved.requirements]
        needed = [self._positions[requirement[:3]] for requirement in resolved.requirements if requirement.runtime]
        visible = tuple(dict.fromkeys(place for one in direct for place in self.closure(one)))
        name = definition_name(resolved.step)
        step = resolved.step._replace(
            dependencies=tuple(self._names[place] for place in visible),
            runtime=tuple(self._names[place] for place in needed),
        )
        inputs = (self._toolchain(resolved), *visible)
        position = self.add_node(step, inputs, f"build {name}", name, Span(resolved.path, 1))
        self._positions[identity] = position
        self._names[position] = name
        self._closures[position] = tuple(dict.fromkeys(place for one in needed for place in self.closure(one)))

    def _debian(self, package: str) -> int:
        content = self._contents.get(package, "")
        step = Base("debian-package", package, self._platform, Digest(content) if content else None)
        position = self.add_node(step, (), f"unpack debian/{package}", f"debian/{package}", Span(package, 1))
        self._names[position] = f"debian/{package}"
        return position

    def _toolchain(self, resolved: Resolved) -> int:
        name, pinned = resolved.toolchain
        position = self._toolchains.get(resolved.toolchain)
        if position is None:
            step = Base("toolchain", name, self._platform, Digest(pinned) if pinned else None)
            title = f"toolchain {name.partition(' ')[0]}"
            position = self.add_node(step, (), title, "toolchain", Span(resolved.path, 1))
            self._toolchains[resolved.toolchain] = position
        return position

    def _cycle(self, requirement: Requirement, open_now: dict[Identity, None]) -> DefinitionError:
        chain = list(open_now)
        chain = chain[chain.index(requirement[:3]) :]
        names = [definition_name(self._resolved[identity].step) for identity in chain]
        user = next(
            (one for one in chain if requirement in self._resolved[one].requirements),
            chain[-1],
        )
        where = Span(user[0], requirement.line, requirement.column)
        return wrong("cycle", f"packages need each other: {' -> '.join([*names, names[0]])}", where)
