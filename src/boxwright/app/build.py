"""From a definition to a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.bases import BaseFetcher, base_resolver
from boxwright.app.configuration import configuration_for
from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import is_inside, lock_path
from boxwright.app.givens import Given
from boxwright.app.inputs import build_contexts, given_definition, named_trees
from boxwright.app.kinds import step_kinds
from boxwright.app.moment import Moment, build_moment
from boxwright.app.mounts import LateMounts
from boxwright.app.platforms import checked_platform
from boxwright.app.privileges import ensure_privileges
from boxwright.app.request import BuildRequest
from boxwright.app.sandboxes import LateSandbox
from boxwright.app.workers import Workers
from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph, unused_build_args
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.plan import Plan
from boxwright.model.step import Base, Fetch
from boxwright.solver.keys import Keys
from boxwright.solver.planner import make_plan
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.engines import LateRoom

DIRECTIVES_END = 4096


class Build(NamedTuple):
    """A build that is planned and can be run."""

    definition: str
    graph: Graph
    plan: Plan
    keys: Keys
    refuse: frozenset[int]
    sandbox: LateSandbox
    moment: Moment
    contexts: LocalContexts
    mounts: LateMounts
    unused_arguments: tuple[str, ...] = ()
    bases: Mapping[str, Base] = MappingProxyType({})
    workers: Workers | None = None
    room: LateRoom | None = None
    find: Callable[[Digest], Snapshot | None] | None = None
    again: Callable[[], Build] | None = None
    other: Callable[[Graph], Build] | None = None
    """A plan for another graph in the same circumstances."""


def prepare(request: BuildRequest, store: Store, environment: Mapping[str, str]) -> Build:
    """Read the definition, make the graph and plan it. Runs nothing but what resolving a base needs."""
    given, file, text = given_definition(request, store)
    if "error" in text[:DIRECTIVES_END] and "check" in text[:DIRECTIVES_END].lower():
        from boxwright.app.check import refuse_findings

        refuse_findings(given.directory, file, text)
    moment = build_moment(
        environment, request.build_args, None if given.fetched else given.directory, committed=given.committed
    )
    # A stranger's tree says nothing about this machine's bases and mirrors.
    configuration = configuration_for(store.scratch() if given.fetched else given.directory, environment)
    request = _with_lock(request, given, file)
    outside = configuration.outside(request.mirror, environment, offline=request.offline)
    resolver = base_resolver(store, request, configuration.bases)
    named = named_trees(request)
    options = RecipeOptions(
        build_args=request.build_args,
        target=request.target,
        platform=checked_platform(request.platform),
        labels=request.labels,
        network=request.network,
        contexts=frozenset(named.trees),
        images=named.images,
        aliases=named.aliases,
        validate=request.validate,
        marked=request.marked,
    )
    shown = os.path.relpath(file, given.directory) if given.fetched and file != "-" else file
    graph = build_graph(text, shown, resolver=resolver, options=options)
    unused = unused_build_args(text, file, request.build_args) if request.build_args else ()

    def planned(graph: Graph) -> Build:
        contexts = build_contexts(given, named.trees, file, graph, store, moment.epoch)
        sandbox = LateSandbox(store.home.cache)
        fetcher = BaseFetcher(store, outside, request.lock, keep=request.locking)
        kinds, mounts = step_kinds(request, store, graph, contexts, sandbox, moment, environment, fetcher)
        pull = _unpinned_bases(graph) if request.pull else frozenset()
        keys = Keys(graph, kinds, finder(store), pull)
        refuse = pull | _again(graph, request)
        keep = [item.node for item in graph.history if item.node is not None] if request.layers else ()
        plan = make_plan(graph, keys, refuse=refuse, keep=keep)
        made = Build(file, graph, plan, keys, refuse, sandbox, moment, contexts, mounts, unused, resolver.asked)
        return made._replace(other=planned)

    return planned(graph)


def _with_lock(request: BuildRequest, given: Given, file: str) -> BuildRequest:
    """The request with the lock that lies beside the definition. Raises `lock.none` where there must be one."""
    if request.locking:
        return request
    path = lock_path(file)
    there = file != "-" and os.path.isfile(path) and (not given.fetched or is_inside(given.directory, path))
    if not there:
        if request.locked:
            hint = "run `boxwright lock`"
            raise DefinitionError("lock.none", f"there is no {os.path.basename(path)} beside {file}", hint=hint)
        return request
    from boxwright.app.locks import read_lock

    return request._replace(lock=read_lock(file, checked_platform(request.platform)))


def finder(store: Store) -> Callable[[Digest], Snapshot | None]:
    """How snapshots are looked up: after a restart of the machine they are compared before they are trusted."""
    if not store.may_be_damaged():
        return store.snapshot
    from boxwright.store.afterboot import AfterBoot

    return AfterBoot(store, ensure_privileges).snapshot


def _unpinned_bases(graph: Graph) -> frozenset[int]:
    """Bases of which only fetching them again says what they are today; of others the resolver has asked."""
    return frozenset(
        position
        for position, node in enumerate(graph.nodes)
        if isinstance(node.step, Base) and node.step.pinned is None
    )


def _again(graph: Graph, request: BuildRequest) -> frozenset[int]:
    """The steps that are run whatever is recorded. What stands on a stage that is run again is run again too."""
    if not request.no_cache and not request.no_cache_stages:
        return frozenset()
    again: set[int] = set()
    for position, node in enumerate(graph.nodes):
        named = request.no_cache or node.stage in request.no_cache_stages
        if not isinstance(node.step, Base | Fetch) and (named or not again.isdisjoint(node.inputs)):
            again.add(position)
    return frozenset(again)
