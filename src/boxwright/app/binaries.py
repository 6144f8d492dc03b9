"""A build's packages, taken from repositories where they have them.

All that a plan would build is asked for in one batch, of each repository in its order. What a repository has is
fetched, checked against its signed record, and recorded as if it had been built here. Whatever goes wrong with a
repository is said, and the build goes on without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.locks import locked_as
from boxwright.errors import FetchError, StoreError
from boxwright.events import Message
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.package import PackageRecord
from boxwright.model.plan import Action, Plan
from boxwright.model.step import Base, BuildPackage, TestPackage
from boxwright.ports import Emit
from boxwright.repositories.binary.place import at_once
from boxwright.repositories.ports import Offer, PackageSource, Wanted
from boxwright.solver.keys import Keys
from boxwright.solver.planner import make_plan
from boxwright.store.packages import Packages
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.locks import Lock
    from boxwright.sources.tarmembers import Member


class Target(NamedTuple):
    """A graph with its keys, and what is run whatever is known (`refuse`). What a `lock` pins is known by digest."""

    graph: Graph
    keys: Keys
    refuse: Collection[int] = ()
    lock: Lock | None = None


class Binaries:
    """What repositories have of one build's packages. `origins` says by node from which one it was taken.

    `more` gives further repositories, and is called only where something must be built.
    """

    def __init__(
        self,
        sources: Sequence[PackageSource],
        store: Store,
        emit: Emit,
        origins: dict[int, str] | None = None,
        bring_tree: Callable[[Digest, Store, Emit], None] | None = None,
        more: Callable[[], Sequence[PackageSource]] = tuple,
    ) -> None:
        self._sources = list(sources)
        self._more = more
        self._store = store
        self._packages = Packages(store)
        self._emit = emit
        self._bring_tree = bring_tree
        self._asked: dict[PackageSource, set[Wanted]] = {}
        self._offers: dict[Wanted, list[tuple[PackageSource, Offer]]] = {}
        self._stop = threading.Event()
        self.origins = {} if origins is None else origins

    def plan(self, target: Target, plan: Plan) -> Plan:
        """The plan with what repositories offer."""
        if not any(_is_wanted(target, plan, place) for place in range(len(target.graph.nodes))):
            return plan
        self._sources += self._more()
        self._more = tuple
        self._ask(target)
        offered = {place: it[0][0].name for place in range(len(target.graph.nodes)) if (it := self._for(target, place))}
        return make_plan(target.graph, target.keys, refuse=target.refuse, offered=offered) if offered else plan

    def bring(self, target: Target, plan: Plan) -> Plan:
        """Fetch what the plan takes from repositories; returns what is left to do."""
        plan = self.plan(target, plan)
        while places := [place for place, it in enumerate(plan.decisions) if it.action is Action.FETCH]:
            try:
                fetched = at_once(lambda place: (place, self._fetch(target, place)), places)
            except BaseException:
                self._stop.set()
                raise
            for place, snapshot in fetched:
                if snapshot is not None:
                    target.keys.recorded(place)
            plan = self.plan(target, make_plan(target.graph, target.keys, refuse=target.refuse))
        plan = self._without_tests(target, plan)
        self._bring_toolchains(target, plan)
        self._bring_sources(target, plan)
        return plan

    def _bring_sources(self, target: Target, plan: Plan) -> None:
        """What is still to be made is made of: a repository may have what is gone elsewhere."""
        wanted = [
            content
            for place, decision in enumerate(plan.decisions)
            if decision.action is Action.RUN
            for content in self._made_of(target, place)
            if self._packages.blob(content) is None
        ]
        if wanted:
            at_once(self._bring_source, list(dict.fromkeys(wanted)))

    def _bring_source(self, content: str) -> None:
        """Take a file from the first repository that has it."""
        for source in self._sources:
            try:
                with self._packages.adding() as part:
                    if source.fetch_source(content, part, self._stop.is_set):
                        self._packages.add(part, content)
                        return
            except FetchError as error:
                self._warn(f"a source is not taken from {source.name}: {error.message}", error.code)

    def _made_of(self, target: Target, place: int) -> list[str]:
        """The digests of what a node is made of: sources, a distribution's package, those of a locked base."""
        step = target.graph.nodes[place].step
        if isinstance(step, BuildPackage):
            sources = [it for it in step.sources if not any(origin.startswith("local:") for origin in it.origins)]
            return [content for source in sources for _, content in source.files]
        if not isinstance(step, Base) or step.pinned is None or target.keys.snapshot(place) is not None:
            return []
        if step.source == "debian-package":
            return [step.pinned]
        locked = locked_as(target.lock, step)
        if locked is None or self._store.by_content(step.pinned) or self._store.by_full(step.pinned):
            return []
        return [f"sha256:{item.sha256}" for item in locked.packages]

    def _bring_toolchains(self, target: Target, plan: Plan) -> None:
        """The pinned toolchains that are still needed: what is here by content need not be bootstrapped."""
        if self._bring_tree is None:
            return
        for node, decision in zip(target.graph.nodes, plan.decisions, strict=True):
            step = node.step
            if decision.action is not Action.RUN or not isinstance(step, Base) or step.source != "toolchain":
                continue
            if step.pinned and self._store.by_content(step.pinned) is None:
                self._bring_tree(step.pinned, self._store, self._emit)

    # Asking -------------------------------------------------------------------------------------------------------

    def _ask(self, target: Target) -> None:
        """Ask for every package of the graph that is not here and that nobody offers, each repository once.

        An offer that turned out to be nothing (its content is damaged, or it was built with other dependencies) is
        none: then the next repository is asked.
        """
        nodes = range(len(target.graph.nodes))
        packages = [(place, it) for place in nodes if (it := _wanted(target, place)) is not None]
        for source in list(self._sources):
            asked = self._asked.setdefault(source, set())
            left = [it for place, it in packages if it not in asked and not self._for(target, place)]
            if not left:
                continue
            asked.update(left)
            for it, offer in self._answer(source, left).items():
                self._offers.setdefault(it, []).append((source, offer))

    def _answer(self, source: PackageSource, wanted: Sequence[Wanted]) -> Mapping[Wanted, Offer]:
        try:
            found = source.find(wanted)
        except FetchError as error:
            self._sources.remove(source)
            self._warn(f"{source.name} is not asked: {error.message}", error.code)
            return {}
        refused = source.refusals()
        if refused:
            others = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            self._warn(f"nothing is taken of what can't be trusted: {refused[0]}{others}", "repository.untrusted")
        return found

    def _warn(self, text: str, code: str) -> None:
        self._emit(Message("warning", f"{text} [{code}]"))

    def _for(self, target: Target, place: int) -> list[tuple[PackageSource, Offer]]:
        """The offers for a node that agree with what is known here of what it was built with."""
        wanted = _wanted(target, place)
        offers = self._offers.get(wanted, []) if wanted is not None else []
        return [it for it in offers if _agrees(target, place, it[1])]

    # Fetching -----------------------------------------------------------------------------------------------------

    def _fetch(self, target: Target, place: int) -> Snapshot | None:
        """The package of a node, from the first repository that gives what it offered."""
        wanted = _wanted(target, place)
        for source, offer in self._for(target, place):
            try:
                snapshot = receive(self._store, self._packages, source, offer, self._stop.is_set)
            except FetchError as error:
                self._warn(f"{offer.name} is not taken from {source.name}: {error.message}", error.code)
                if wanted is not None:
                    self._offers[wanted] = [it for it in self._offers[wanted] if it != (source, offer)]
                continue
            self.origins[place] = source.name
            return snapshot
        return None

    def _without_tests(self, target: Target, plan: Plan) -> Plan:
        """Tests that passed where the packages come from are not run again."""
        fetched = set(self.origins)
        places = [
            place
            for place, (node, it) in enumerate(zip(target.graph.nodes, plan.decisions, strict=True))
            if it.action is Action.RUN and it.key and isinstance(node.step, TestPackage) and fetched & {*node.inputs}
        ]
        if not places:
            return plan
        keys = {place: key for place in places if (key := plan.decisions[place].key) is not None}
        for source in self._sources:
            try:
                passed = source.tested(list(keys.values()))
            except FetchError:
                continue
            for place, key in keys.items():
                if key in passed:
                    self._store.empty(key)
                    target.keys.recorded(place)
        return make_plan(target.graph, target.keys, refuse=target.refuse)


def _wanted(target: Target, place: int) -> Wanted | None:
    """A node as repositories are asked for it; None where it is no package, or its toolchain is not known."""
    if not isinstance(target.graph.nodes[place].step, BuildPackage) or place in target.refuse:
        return None
    definition = target.keys.definition(place)
    return None if definition is None else Wanted(definition, target.keys.of(place).key)


def _is_wanted(target: Target, plan: Plan, place: int) -> bool:
    return plan.decisions[place].action is Action.RUN and _wanted(target, place) is not None


def _agrees(target: Target, place: int, offer: Offer) -> bool:
    """Whether it was built with the dependencies that are here, as far as they are."""
    key = target.keys.of(place).key
    if key is not None:
        return key == offer.key
    node = target.graph.nodes[place]
    step = node.step
    if not isinstance(step, BuildPackage):
        return False
    toolchain, *others = (target.keys.of(number).state for number in node.inputs)
    known = zip(step.dependencies, others, strict=True)
    return toolchain in (None, offer.toolchain) and all(
        content is None or offer.dependencies.get(name) == content for name, content in known
    )


def receive(
    store: Store, packages: Packages, source: PackageSource, offer: Offer, cancelled: Callable[[], bool]
) -> Snapshot:
    """Fetch a package and record it. Raises FetchError where it is not what its record says; nothing is kept then."""
    with store.lock(offer.key, cancelled):
        known = store.snapshot(offer.key)
        if known is not None and packages.by_key(offer.key) is not None:
            packages.note_definition(offer.definition, offer.key)
            return known
        with packages.adding() as part:
            record = source.fetch(offer, part, cancelled)
            snapshot = _unpacked(store, offer, part)
            packages.add_archive(part, offer.archive)
        packages.keep(PackageRecord(offer.key, offer.definition, offer.name, offer.archive, record))
    return snapshot


def _unpacked(store: Store, offer: Offer, archive: str) -> Snapshot:
    """The tree of a package, recorded where it is what the record says."""
    from boxwright.sources.unpack import Limits, unpack_tar

    with store.draft(None) as draft:
        unpack_tar(archive, draft.upper, limits=Limits(size=offer.size), adapt=_plain)
        try:
            return store.commit(offer.key, None, draft, newest=None, expected=offer.content)
        except StoreError as error:
            if error.code != "store.unexpected":
                raise
            raise FetchError("repository.altered", f"the files of {offer.name}: {error.message}") from error


def _plain(member: Member) -> Member:
    """A member of a package: no package holds a device."""
    from boxwright.sources.tarmembers import BLOCK_DEVICE, CHAR, FIFO

    if member.kind in (CHAR, BLOCK_DEVICE, FIFO):
        name = member.name.decode(errors="backslashreplace")
        raise FetchError("repository.archive", f"the archive holds {name}, which is no file, directory or link")
    return member
