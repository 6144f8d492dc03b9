"""A build of packages: definitions become a graph, the graph is planned and run.

For whoever composes packages: `resolver` and `PackageGraph` give the nodes, `package_kinds` how they are run,
`Packages` what was built (docs/packages.md, "For other frontends").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.bases import BaseFetcher
from boxwright.app.configuration import configuration_for
from boxwright.app.outside import ANYWHERE, Outside
from boxwright.app.packagecache import ResolvedCache, frontend_stamp
from boxwright.app.packagefiles import DefinitionFiles, package_trees
from boxwright.app.platforms import machine_platform, planned_platform
from boxwright.app.privileges import ensure_privileges
from boxwright.app.workers import RemoteOptions, Workers, run_here
from boxwright.errors import BoxwrightError
from boxwright.events import Planned
from boxwright.frontends.package.graph import PackageGraph
from boxwright.frontends.package.wanted import Found, Resolved
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.model.graph import Graph
from boxwright.model.image import Snapshot
from boxwright.model.package import PackageRecord
from boxwright.model.plan import Action, Plan
from boxwright.model.step import Base, BuildPackage, TestPackage
from boxwright.ports import Emit
from boxwright.solver.keys import Keys, Kinds
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Conditions, Failed, Scheduler
from boxwright.store.home import unusable
from boxwright.store.packages import Packages
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.binaries import Binaries
    from boxwright.app.locks import Lock
    from boxwright.steps.package import BuildPackageKind, RunAction


class PackageRequest(NamedTuple):
    """What the user asked for: a definition's file, or a package of a tree."""

    file: str
    version: str = ""
    platform: str = ""
    mirror: str | None = None
    no_cache: bool = False
    jobs: int = 0
    keep_going: bool = False
    test: bool = True
    lock: Lock | None = None
    locked: bool = False
    locking: bool = False
    offline: bool = False
    pull: bool = False
    remote_jobs: int | None = None

    @property
    def pins(self) -> Mapping[str, str]:
        """What the lock pins."""
        return self.lock.pins if self.lock else MappingProxyType({})


def with_lock(file: str, version: str = "") -> PackageRequest:
    """A package without its tests, with the lock that lies beside it."""
    from boxwright.app.locks import read_lock

    lock = read_lock(file, machine_platform())
    return PackageRequest(file, version, lock=lock, locked=lock is not None, test=False)


class PackageBuild(NamedTuple):
    """A build of a package that is planned and can be run. `package` is its node; the graph's target may test it."""

    graph: Graph
    packages: PackageGraph
    package: int
    plan: Plan
    keys: Keys
    refuse: frozenset[int]
    files: DefinitionFiles
    workers: Workers


def definition_files(
    request: PackageRequest,
    packages: Packages,
    environment: Mapping[str, str],
    outside: Outside,
    output: Callable[[bytes], None],
) -> DefinitionFiles:
    """What the definitions of a build may ask."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdecimal():
        from boxwright.errors import UsageError

        raise UsageError("usage.epoch", f"SOURCE_DATE_EPOCH={text}: seconds since 1970 are expected")
    trees = package_trees(os.path.dirname(request.file), environment)
    files = DefinitionFiles(
        packages,
        trees,
        request.pins,
        epoch=int(text) if text else None,
        locked=request.locked,
        output=output,
        outside=outside,
        platform=request.platform,
    )
    files.pull = request.pull
    return files


def resolver(files: DefinitionFiles, platform: str, cache: ResolvedCache | None = None) -> Callable[[Found], Resolved]:
    """How a PackageGraph gets at definitions."""

    def resolved(found: Found) -> Resolved:
        from boxwright.frontends.package.resolve import resolve

        return resolve(found, platform, files)

    return resolved if cache is None else lambda found: cache.resolve(found, resolved)


def resolved_cache(files: DefinitionFiles, packages: Packages, platform: str, request: PackageRequest) -> ResolvedCache:
    """What was resolved before under the same circumstances."""
    circumstances = (platform, files.trees, files.epoch(), sorted(request.pins.items()), request.locked)
    text = f"{frontend_stamp()}{circumstances!r}"
    return ResolvedCache(packages.cache("definitions"), hex_of(digest_of(text.encode()))[:32], files)


def package_kinds(
    store: Store,
    packages: Packages,
    outside: Outside = ANYWHERE,
    lock: Lock | None = None,
    *,
    keep: bool = False,
    run_action: RunAction = run_here,
) -> Kinds:
    """How the nodes of a PackageGraph are run. With `keep` the packages that bases are made of are kept by digest.

    `run_action` runs the actions: that of `Workers` also elsewhere.
    """
    from boxwright.steps.base import BaseKind
    from boxwright.steps.testing import TestPackageKind

    return {
        Base: BaseKind(store, BaseFetcher(store, outside, lock, keep=keep)),
        BuildPackage: build_kind(store, packages, outside, lock, run_action),
        TestPackage: TestPackageKind(store, run_action, store.home.layers),
    }


def build_kind(
    store: Store,
    packages: Packages,
    outside: Outside = ANYWHERE,
    lock: Lock | None = None,
    run_action: RunAction = run_here,
) -> BuildPackageKind:
    """How packages are built."""
    from boxwright.app.packagesources import PackageSources
    from boxwright.steps.package import BuildPackageKind

    sources = PackageSources(packages, outside, lock.paths if lock else {})
    return BuildPackageKind(store, packages, sources, run_action, _unpack, store.home.layers)


def _unpack(path: str, directory: str) -> None:
    from boxwright.sources.unpack import unpack_tar

    unpack_tar(path, directory)


def package_outside(request: PackageRequest, environment: Mapping[str, str]) -> Outside:
    """How what a package needs from outside is reached."""
    configuration = configuration_for(os.path.dirname(os.path.abspath(request.file)), environment)
    return configuration.outside(request.mirror, environment, offline=request.offline)


def package_workers(request: PackageRequest, store: Store, environment: Mapping[str, str]) -> Workers:
    """Where the actions of a build are run."""
    options = RemoteOptions(request.remote_jobs, again=request.no_cache, offline=request.offline)
    return Workers(os.path.dirname(os.path.abspath(request.file)), environment, store, options)


def prepare_package(
    request: PackageRequest, store: Store, environment: Mapping[str, str], output: Callable[[bytes], None]
) -> PackageBuild:
    """Read the definitions, make the graph and plan it."""
    packages = Packages(store)
    platform = planned_platform(request.platform)
    outside = package_outside(request, environment)
    files = definition_files(request, packages, environment, outside, output)
    cache = resolved_cache(files, packages, platform, request)
    files.locking = request.locking
    builder = PackageGraph(resolver(files, platform, None if request.locking else cache), platform)
    package = builder.add(Found(os.path.abspath(request.file), request.version))
    target = builder.add_test(package) if request.test else package
    cache.save()
    graph = builder.graph(target)
    workers = package_workers(request, store, environment)
    run_action = workers.run_action
    kinds = package_kinds(store, packages, outside, request.lock, keep=request.locking, run_action=run_action)
    keys = Keys(graph, kinds, store.snapshot, find_definition=packages.by_definition)
    refuse = frozenset({package, target}) if request.no_cache else frozenset()
    return PackageBuild(graph, builder, package, make_plan(graph, keys, refuse=refuse), keys, refuse, files, workers)


def make_inputs(build: PackageBuild, store: Store, positions: Sequence[int], emit: Emit) -> None:
    """Make the nodes at `positions` where they are not recorded. Raises what their making raises."""
    make_nodes(build.graph, build.keys, store, positions, emit)


def make_nodes(graph: Graph, keys: Keys, store: Store, positions: Sequence[int], emit: Emit) -> None:
    """Like `make_inputs`, for any graph of packages."""
    if not positions:
        return
    from boxwright.sandbox.bubblewrap import require_bubblewrap

    ensure_privileges()
    require_bubblewrap()
    for position in positions:
        if keys.snapshot(position) is not None:
            continue
        one = graph._replace(target=position, gates=(), databases=())
        try:
            conditions = Conditions(os.cpu_count() or 1, 0, True)
            Scheduler(one, make_plan(one, keys), keys, store, emit, conditions).run()
        except Failed as failure:
            raise failure.error from failure


def bring_packages(
    build: PackageBuild, store: Store, emit: Emit, binaries: Binaries | None, lock: Lock | None = None
) -> PackageBuild:
    """The build with a plan in which what repositories have is here. Toolchains come first: they identify packages."""
    if binaries is None:
        return build
    from boxwright.app.binaries import Target

    toolchains = unknown_toolchains(build.graph, build.plan, build.keys)
    if toolchains:
        make_inputs(build, store, toolchains, emit)
    ensure_privileges()
    target = Target(build.graph, build.keys, build.refuse, lock)
    plan = make_plan(build.graph, build.keys, refuse=build.refuse) if toolchains else build.plan
    return build._replace(plan=binaries.bring(target, plan))


def unknown_toolchains(graph: Graph, plan: Plan, keys: Keys) -> list[int]:
    """The bases without which the identities of packages that are to be built are not known."""
    return sorted(
        {
            number
            for position, (node, decision) in enumerate(zip(graph.nodes, plan.decisions, strict=True))
            if decision.action is Action.RUN
            and isinstance(node.step, BuildPackage)
            and keys.definition(position) is None
            for number in node.inputs
            if isinstance(graph.nodes[number].step, Base) and keys.snapshot(number) is None
        }
    )


def execute_package(
    build: PackageBuild, request: PackageRequest, store: Store, emit: Emit, binaries: Binaries | None = None
) -> PackageRecord:
    """Run the plan; returns the record of the package. What `binaries` have is not built."""
    build = bring_packages(build, store, emit, binaries, request.lock)
    emit(Planned(build.plan))
    store.touch([decision.key for decision in build.plan.decisions if decision.action is Action.REUSE and decision.key])
    if any(decision.action is Action.RUN for decision in build.plan.decisions):
        from boxwright.sandbox.bubblewrap import require_bubblewrap

        ensure_privileges()
        require_bubblewrap()
    jobs = request.jobs or max(2, os.cpu_count() or 1)
    try:
        if any(decision.action is Action.RUN for decision in build.plan.decisions):
            jobs = build.workers.open(jobs, emit)
        place = build.workers.place
        conditions = Conditions(jobs, 0, True, build.refuse, keep_going=request.keep_going, place=place)
        Scheduler(build.graph, build.plan, build.keys, store, emit, conditions).run()
        record_there(build.workers, build.graph, build.plan, build.keys, store)
    except Failed as failure:
        record_there(build.workers, build.graph, build.plan, build.keys, store)
        if isinstance(failure.error, OSError):
            failure.error = unusable(store.home.root, failure.error)
        raise
    finally:
        build.workers.close()
    packages = Packages(store)
    note_definitions(build.graph, build.plan, build.keys, store)
    key = build.keys.of(build.package).key
    record = packages.by_key(key) if key else None
    if record is None:
        raise BoxwrightError("store.gone", "the package was removed while it was being built", hint="build again")
    return record


def record_there(workers: Workers, graph: Graph, plan: Plan, keys: Keys, store: Store) -> None:
    """Let others find what this build made on the servers that have it, by its identities."""
    packages = Packages(store)
    found: list[PackageRecord] = []
    tests: list[Digest] = []
    for position, (node, decision) in enumerate(zip(graph.nodes, plan.decisions, strict=True)):
        snapshot = keys.snapshot(position) if decision.action is Action.RUN else None
        if snapshot is None:
            continue
        if isinstance(node.step, TestPackage):
            tests.append(snapshot.key)
        elif isinstance(node.step, BuildPackage):
            record = packages.by_key(snapshot.key)
            found += [record] if record is not None else []
    workers.record(found, packages.definitions, tests)


def note_definitions(graph: Graph, plan: Plan, keys: Keys, store: Store) -> None:
    """Where the same bytes stopped the rebuilding, a new definition key stands for a package that was there."""
    packages = Packages(store)
    with store.index.writing():
        for position, (node, decision) in enumerate(zip(graph.nodes, plan.decisions, strict=True)):
            if isinstance(node.step, BuildPackage) and decision.action is Action.RUN:
                definition, key = keys.definition(position), keys.of(position).key
                if definition and key:
                    packages.note_definition(definition, key)


def snapshot_of(store: Store, key: Digest) -> Snapshot:
    """A package's files."""
    snapshot = store.snapshot(key)
    if snapshot is None:
        raise BoxwrightError("store.gone", f"the package {key} is no longer here", hint="build again")
    return snapshot
