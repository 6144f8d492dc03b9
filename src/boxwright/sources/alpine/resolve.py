"""Which packages are needed for a few names, and in which order they are installed.

A mirror has one version of nearly everything, so there is hardly a choice to make: each name is given its best
provider, and where a later constraint refuses one it is struck off and the search starts again. Strikes only grow, so
this ends. The order and the choice depend on the index and the names alone.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import cmp_to_key, partial
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.alpine.index import Dependency, Package
from boxwright.sources.alpine.versions import compare


class _Offer(NamedTuple):
    """A package that provides a name, in that version (empty: in none)."""

    package: Package
    version: str


class _Struck(Exception):  # noqa: N818 - no error: the search goes on without that package
    """A package that can't be in the result, and why."""

    def __init__(self, package: Package, reason: str) -> None:
        super().__init__(reason)
        self.package = package
        self.reason = reason


_Offers = Mapping[str, Sequence[_Offer]]
_Key = tuple[str, str, str]


def resolve(packages: Sequence[Package], world: Sequence[Dependency]) -> tuple[Package, ...]:
    """The packages that `world` needs, each after what it depends on; a cycle is entered where it is first met.

    Raises FetchError `base.dependency` where something is missing or in conflict, `base.ambiguous` where several
    packages provide a name and nothing says which.
    """
    offers: dict[str, list[_Offer]] = defaultdict(list)
    for package in packages:
        for name, version in dict(((package.name, package.version), *package.provides)).items():
            offers[name].append(_Offer(package, version))
    struck: dict[_Key, str] = {}
    while True:
        search = _Search(offers, struck)
        try:
            search.add(world)
            search.add_automatic(packages)
        except _Struck as found:
            struck[_key(found.package)] = found.reason
            continue
        return search.in_order(world)


def _key(package: Package) -> _Key:
    return package.name, package.version, package.repository


class _Search:
    """One attempt, without what was struck off before."""

    def __init__(self, offers: _Offers, struck: Mapping[_Key, str]) -> None:
        self._offers = offers
        self._struck = struck
        self._chosen: dict[str, Package] = {}
        self._forbidden: list[tuple[Dependency, Package | None]] = []

    def add(self, wanted: Sequence[Dependency], by: Package | None = None) -> None:
        """Choose a package for each dependency, and for what that needs in turn.

        Where several would do alike, the others go first: one of them may decide.
        """
        waiting = deque((dependency, by) for dependency in wanted)
        undecided: list[tuple[Dependency, Package | None, Sequence[str]]] = []
        while waiting:
            dependency, asker = waiting.popleft()
            if dependency.forbidden:
                self._forbid(dependency, asker)
            elif not self._met(dependency):
                best, rivals = self._choose(dependency, asker)
                if rivals:
                    undecided.append((dependency, asker, rivals))
                    continue
                self._chosen[best.name] = best
                for refused, owner in self._forbidden:
                    self._check(refused, owner, best)
                waiting.extend((needed, best) for needed in best.needs)
        for dependency, asker, rivals in undecided:
            if not self._met(dependency):
                raise _ambiguous(dependency, asker, rivals)

    def add_automatic(self, packages: Sequence[Package]) -> None:
        """What asks to be installed wherever certain others are (install_if)."""
        candidates = [package for package in packages if package.install_if]
        grown = True
        while grown:
            grown = False
            for package in candidates:
                if package.name in self._chosen or _key(package) in self._struck or not self._triggers(package):
                    continue
                self.add((Dependency(package.name, "=", package.version),))
                grown = True

    def _triggers(self, package: Package) -> bool:
        return all(self._met(condition) is not condition.forbidden for condition in package.install_if)

    def _met(self, dependency: Dependency) -> bool:
        return any(
            self._chosen.get(offer.package.name) is offer.package and dependency.accepts(offer.version)
            for offer in self._offers.get(dependency.name, ())
        )

    def _forbid(self, dependency: Dependency, asker: Package | None) -> None:
        self._forbidden.append((dependency, asker))
        for package in tuple(self._chosen.values()):
            self._check(dependency, asker, package)

    def _check(self, refused: Dependency, owner: Package | None, package: Package) -> None:
        for offer in self._offers.get(refused.name, ()):
            if offer.package is package and package is not owner and refused.accepts(offer.version):
                raise _Struck(package, f"{owner or 'the base'} forbids {refused._replace(forbidden=False)}")

    def _choose(self, dependency: Dependency, asker: Package | None) -> tuple[Package, Sequence[str]]:
        """The best package for a dependency, and the names of those that would do as well, itself included."""
        offers = self._offers.get(dependency.name, ())
        fitting = [offer for offer in offers if dependency.accepts(offer.version)]
        left = [offer for offer in fitting if _key(offer.package) not in self._struck]
        for offer in left:
            other = self._chosen.get(offer.package.name)
            if other is not None and other is not offer.package:
                raise _Struck(other, f"{asker or 'the base'} needs {dependency}")
        if not left:
            raise self._missing(dependency, asker, [offer.package for offer in fitting or offers])
        best = min(left, key=cmp_to_key(partial(_better, dependency.name)))
        unversioned = [offer.package for offer in left if not offer.version]
        rivals = sorted({package.name for package in unversioned if package.priority == best.package.priority == 0})
        return best.package, rivals if best.package.name in rivals and len(rivals) > 1 else ()

    def _missing(self, dependency: Dependency, asker: Package | None, others: Sequence[Package]) -> FetchError:
        there = "; ".join(
            f"{package} is there" + (f", but {self._struck[_key(package)]}" if _key(package) in self._struck else "")
            for package in others
        )
        return FetchError(
            "base.dependency",
            f"{asker or 'the base'} needs {dependency}, which the mirror doesn't have"
            + (f" ({there})" if there else ""),
            hint="is the mirror complete and up to date? Another one: --mirror URL",
        )

    def in_order(self, world: Sequence[Dependency]) -> tuple[Package, ...]:
        """The chosen packages, each after those that it depends on."""
        order: dict[str, Package] = {}
        entered: set[str] = set()
        roots = [*self._targets(world), *(self._chosen[name] for name in sorted(self._chosen))]
        for root in roots:
            waiting = [(root, False)]
            while waiting:
                package, finished = waiting.pop()
                if finished:
                    order.setdefault(package.name, package)
                elif package.name not in entered:
                    entered.add(package.name)
                    waiting.append((package, True))
                    waiting += [(needed, False) for needed in reversed(self._targets(package.needs))]
        return tuple(order.values())

    def _targets(self, dependencies: Sequence[Dependency]) -> list[Package]:
        return [
            offer.package
            for dependency in dependencies
            if not dependency.forbidden
            for offer in self._offers.get(dependency.name, ())
            if self._chosen.get(offer.package.name) is offer.package and dependency.accepts(offer.version)
        ]


def _ambiguous(dependency: Dependency, asker: Package | None, rivals: Sequence[str]) -> FetchError:
    return FetchError(
        "base.ambiguous",
        f"{asker or 'the base'} needs {dependency}, which several packages provide: {', '.join(rivals)}",
        hint="name one of them among the base's packages",
    )


def _better(name: str, one: _Offer, other: _Offer) -> int:
    """Below 0 where `one` comes first: the package of that very name, priority, the version, the package's name."""
    if (one.package.name == name) is not (other.package.name == name):
        return -1 if one.package.name == name else 1
    if one.package.priority != other.package.priority:
        return other.package.priority - one.package.priority
    order = compare(other.version, one.version) or compare(other.package.version, one.package.version)
    return order or (_key(one.package) > _key(other.package)) - (_key(one.package) < _key(other.package))
