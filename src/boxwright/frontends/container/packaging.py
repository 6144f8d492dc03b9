"""Packages that a definition names, gathered and composed into its state."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.frontends.container.problem import wrong
from boxwright.frontends.container.schema import PackageTask
from boxwright.frontends.container.wanted import PackageFinder
from boxwright.frontends.package.convert import place_of
from boxwright.frontends.package.document import Value
from boxwright.frontends.package.graph import PackageGraph
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.package.wanted import Found, Requirement
from boxwright.model.debianname import is_package
from boxwright.model.span import Span
from boxwright.model.step import BuildPackage, Compose, ComposedPackage, PackageUser

STANDARD_PARTS = ("dev", "doc", "dbg")


class Composed(NamedTuple):
    """A step that composes, where its state is the first input and `inputs` follow."""

    step: Compose
    title: str
    where: Span
    inputs: tuple[int, ...]


class Packaging:
    """The packages of one state. `asked` are the nodes that the definition names, `composed` all that are in it."""

    def __init__(self, packages: PackageGraph, files: PackageFinder) -> None:
        self.packages = packages
        self.asked: list[int] = []
        self.composed: dict[int, None] = {}
        self._files = files
        self._pending: dict[int, ComposedPackage] = {}
        self._done: dict[int, ComposedPackage] = {}
        self._users: list[PackageUser] = []
        self._pending_at = Span("", 1)

    def add_user(self, user: PackageUser, where: Span) -> None:
        """A user that must be there."""
        self._begin(where)
        self._users.append(user)

    def _begin(self, where: Span) -> None:
        if not self._pending and not self._users:
            self._pending_at = where

    def ask(self, content: PackageTask, value: Value, where: Span, reason: str) -> None:
        """A package, with all that it needs when it runs. `value` is what the definition says of it."""
        position = self._found(content, value)
        parts = self._wanted_parts(content, position, value)
        self.asked.append(position)
        self._begin(where)
        for place in self.packages.closure(position):
            own = place == position
            known = self._pending.get(place)
            package = self._as_composed(place, reason if own else "", position)
            if own:
                package = package._replace(wanted=parts, replaces=package.replaces + content.replaces)
                if known is not None:
                    package = _both(known, package)
            if place in self._done:
                if own:
                    _check_done(self._done[place], package, value)
                continue
            if known is None or own:
                self._pending[place] = package
            self.composed[place] = None

    def _as_composed(self, place: int, reason: str, asked_by: int) -> ComposedPackage:
        name = self.packages.name(place)
        reason = reason or f"{self.packages.name(asked_by)} needs it when it runs"
        step = self.packages.nodes[place].step
        if not isinstance(step, BuildPackage):
            return ComposedPackage(name, reason=reason)
        return ComposedPackage(name, step.parts, (), step.replaces, step.users, reason, step.version)

    def _found(self, content: PackageTask, value: Value) -> int:
        if content.type == "debian":
            return self._debian(content, value)
        where = place_of(value, "path").span
        if not content.path:
            raise wrong("missing-key", f"`path` is missing: a package of type {content.type} has one", where)
        if content.type == "embedded":
            reference = content.path if content.path.startswith(("./", "../")) else f"./{content.path}"
        else:
            reference = content.path
            if reference.startswith((".", "/")):
                hint = "a path beside this file is of type embedded"
                raise wrong("value", f"{reference!r} is no name in a package tree", where, hint=hint)
        found = self._files.find(reference, where.file, where)
        if content.version:
            found = Found(found.path, content.version)
        return self.packages.add(found)

    def _debian(self, content: PackageTask, value: Value) -> int:
        name, _, version = (content.name or content.path).removeprefix("debian/").partition("=")
        where = place_of(value, "name").span
        version = content.version or version
        if not name or not version:
            hint = "such as {type: debian, name: libssl3, version: 3.0.17-1~deb12u2}"
            raise wrong(
                "missing-key", "a package of the distribution has a `name` and an exact `version`", where, hint=hint
            )
        if not is_package(name, version):
            raise wrong("value", f"'{name}={version}' is no package of a distribution", where)
        exact = f"{name}={version}"
        content_digest = self._files.debian_package(exact, where)
        return self.packages.add_requirement(
            Requirement("", "", exact, runtime=True, line=where.line, column=where.column, content=content_digest)
        )

    def _wanted_parts(self, content: PackageTask, position: int, value: Value) -> tuple[str, ...]:
        step = self.packages.nodes[position].step
        known = [name for name, _ in step.parts] if isinstance(step, BuildPackage) else []
        for number, name in enumerate(content.parts):
            if name not in known:
                where = place_of(value, "parts", number).span
                raise wrong("unknown-part", f"there is no part {name!r}", where, hint=nearest(name, known))
        own = tuple(name for name in known if name not in STANDARD_PARTS)
        return content.parts or own

    def flush(self, *, overlay: bool = False) -> Composed | None:
        """What composes the packages and users that were gathered; None where there are none."""
        if not self._pending and not self._users:
            return None
        places = tuple(self._pending)
        toolchains = dict.fromkeys(
            self.packages.nodes[place].inputs[0]
            for place in places
            if isinstance(self.packages.nodes[place].step, BuildPackage)
        )
        step = Compose(tuple(self._pending.values()), tuple(self._users), overlay)
        names = ", ".join(package.name for package in step.packages[:3])
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        title = f"compose {names}{more}" if places else f"users {', '.join(user.name for user in self._users)}"
        for place, package in self._pending.items():
            all_parts = tuple(name for name, _ in package.parts)
            self._done[place] = package._replace(wanted=all_parts) if overlay else package
        self._pending, self._users = {}, []
        return Composed(step, title, self._pending_at, (*places, *toolchains))


def _both(first: ComposedPackage, second: ComposedPackage) -> ComposedPackage:
    """A package that is asked for twice."""
    wanted = tuple(dict.fromkeys(first.wanted + second.wanted))
    return second._replace(wanted=wanted, replaces=tuple(dict.fromkeys(first.replaces + second.replaces)))


def _check_done(done: ComposedPackage, asked: ComposedPackage, value: Value) -> None:
    """Raises `container.composed` where more is asked of a package than what was composed above."""
    hint = "say it where the package is named first, or above the first task that is no package"
    for key, there, wanted in (("parts", done.wanted, asked.wanted), ("replaces", done.replaces, asked.replaces)):
        more = [name for name in wanted if name not in there]
        if more:
            message = f"{asked.name} was composed further up, without {key}: {', '.join(more)}"
            raise wrong("composed", message, place_of(value, key).span, hint=hint)
