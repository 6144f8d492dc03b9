"""A build of a manifest: every entry of its matrix in one graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.bases import BaseFetcher, BaseResolver, base_resolver
from boxwright.app.build import Build, finder
from boxwright.app.configuration import Configuration, configuration_for
from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import lock_path
from boxwright.app.execution import describe_bases, execute_plan, history_name, step_records
from boxwright.app.kinds import step_kinds
from boxwright.app.manifest.kept import Kept, load, save
from boxwright.app.moment import build_moment
from boxwright.app.names import image_name
from boxwright.app.outside import Outside
from boxwright.app.packagefiles import stamp
from boxwright.app.platforms import checked_platform
from boxwright.app.request import BuildRequest
from boxwright.app.sandboxes import LateSandbox
from boxwright.app.workers import RemoteOptions, Workers
from boxwright.errors import DefinitionError
from boxwright.events import Message
from boxwright.frontends.manifest.made import BuiltEntry, ManifestGraph
from boxwright.model.digest import digest_of, hex_of
from boxwright.model.graph import Graph
from boxwright.model.image import Image, Snapshot
from boxwright.model.plan import Action
from boxwright.model.span import Span
from boxwright.model.step import Base, BuildPackage, Compose, Fetch
from boxwright.ports import Emit, Resolver
from boxwright.solver.keys import Keys, Kinds
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Failed
from boxwright.store.history import History
from boxwright.store.images import Images
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.locks import Lock
    from boxwright.app.manifest.world import DirectoryWorld
    from boxwright.app.packagefiles import DefinitionFiles
    from boxwright.frontends.container.packaging import Packaging
    from boxwright.frontends.package.graph import PackageGraph


class ManifestRequest(NamedTuple):
    """What the user asks of a manifest beside what is asked of any build. `matrix` picks entries."""

    file: str
    variables: Mapping[str, object] = MappingProxyType({})
    matrix: Mapping[str, str] = MappingProxyType({})


class Taken(NamedTuple):
    """What a manifest takes from outside, for its lock: pins of packages, bases as they are called, modules."""

    pins: Mapping[str, str] = MappingProxyType({})
    bases: Mapping[str, Base] = MappingProxyType({})
    packages: PackageGraph | None = None
    modules: Mapping[str, Mapping[str, str]] = MappingProxyType({})


class ManifestBuild(NamedTuple):
    """A manifest's build that is planned and can be run. `looked` are the files that it stands on."""

    manifest: ManifestGraph
    build: Build
    looked: tuple[str, ...] = ()
    fleeting: bool = False
    taken: Taken = Taken()
    lock: Lock | None = None


class BuiltImage(NamedTuple):
    """An image of an entry, and its names."""

    entry: BuiltEntry
    image: Image
    names: tuple[str, ...]


def prepare_manifest(
    request: BuildRequest,
    asked: ManifestRequest,
    store: Store,
    environment: Mapping[str, str],
    output: Callable[[bytes], None],
) -> ManifestBuild:
    """Read the definition, make the graph and plan it. What a template asks of servers and containers is asked now."""
    directory = os.path.dirname(os.path.abspath(asked.file))
    configuration = configuration_for(directory, environment)
    request = _with_lock(request, asked.file)
    resolver = base_resolver(store, request, configuration.bases)
    kept_path = f"{store.home.cache}/manifests/{_kept_name(request, asked, configuration, environment)}"
    kept = None if request.pull or request.locking else load(kept_path, resolver, environment)
    looked: tuple[str, ...] = ()
    fleeting = False
    taken = Taken()
    if kept is None:
        packages = PackagesOf(asked.file, request, store, environment, configuration, output)
        kept, world = _read(request, asked, store, environment, configuration, resolver, packages)
        looked, fleeting = tuple(world.looked), world.fleeting
        if request.locking:
            taken = _taken(packages, resolver, world)
        elif not fleeting and not request.pull:
            save(kept_path, kept, {**world.looked, **packages.looked()}, world.asked, world.answers())
    manifest = kept.manifest
    if request.engine != "native":
        from boxwright.app.engines import moved_manifest

        manifest = moved_manifest(manifest, request.engine)
    build = plan_graph(request, manifest.graph, asked.file, {"": directory, **kept.contexts}, store, environment)
    return ManifestBuild(manifest, build, looked, fleeting, taken, request.lock)


def _with_lock(request: BuildRequest, file: str) -> BuildRequest:
    """The request with the lock that lies beside the definition. Raises `lock.none` where there must be one."""
    path = lock_path(file)
    if request.locking:
        return request
    if not os.path.isfile(path):
        if request.locked:
            message = f"there is no {os.path.basename(path)} beside {file}"
            raise DefinitionError("lock.none", message, hint="run `boxwright lock`")
        return request
    from boxwright.app.locks import read_lock

    return request._replace(lock=read_lock(file, checked_platform(request.platform)))


def _taken(packages: PackagesOf, resolver: BaseResolver, world: DirectoryWorld) -> Taken:
    from boxwright.app.manifest.modules import pin_of

    files, graph = packages.made or (None, None)
    modules = {name: pin_of(found) for name, found in world.modules.items()}
    return Taken(files.used if files else {}, resolver.asked, graph, modules)


def _kept_name(
    request: BuildRequest, asked: ManifestRequest, configuration: Configuration, environment: Mapping[str, str]
) -> str:
    circumstances = (
        *(os.path.abspath(asked.file), asked.file, sorted(map(str, asked.variables.items()))),
        *(
            stamp(lock_path(asked.file)),
            request.locked,
            request.offline,
            sorted(asked.matrix.items()),
            request.platform,
            request.labels,
            request.network,
            request.marked,
        ),
        *(sorted(configuration.languages.items()), configuration.modules, os.getcwd()),
        *(environment.get(name, "") for name in ("BOXWRIGHT_MODULES", "BOXWRIGHT_PACKAGES", "SOURCE_DATE_EPOCH")),
    )
    return hex_of(digest_of(repr(circumstances).encode("utf-8", "surrogateescape")))[:32]


def _read(
    request: BuildRequest,
    asked: ManifestRequest,
    store: Store,
    environment: Mapping[str, str],
    configuration: Configuration,
    inner: Resolver,
    packages: PackagesOf,
) -> tuple[Kept, DirectoryWorld]:
    """The graph of the definition as it is now."""
    from boxwright.frontends.manifest.graph import ManifestOptions, build_manifest

    platform = checked_platform(request.platform)
    world = open_world(asked.file, request, store, environment, configuration, inner)
    options = ManifestOptions(
        platform, asked.variables, asked.matrix, request.labels, request.network, validate=request.marked
    )
    text = world.read(asked.file, None)
    manifest = build_manifest(text, asked.file, world, world.resolver, options, packages)
    return Kept(manifest, world.contexts), world


def open_world(
    file: str,
    request: BuildRequest,
    store: Store,
    environment: Mapping[str, str],
    configuration: Configuration,
    inner: Resolver,
) -> DirectoryWorld:
    """The world as it is seen from a manifest."""
    from boxwright.app.manifest.facts import image_facts
    from boxwright.app.manifest.imagetrees import bring_image, image_tree_graph, write_shared
    from boxwright.app.manifest.world import DirectoryWorld, NotingResolver

    resolver = NotingResolver(inner)
    platform = checked_platform(request.platform)
    directory = os.path.dirname(file) or "."

    def run(graph: Graph, emit: Emit) -> Snapshot:
        plain = request._replace(no_cache=False, no_cache_stages=frozenset(), keep_going=False, engine="native")
        build = plan_graph(plain, graph, file, {}, store, environment)
        try:
            return execute_plan(build, plain, store, emit)
        except Failed as failure:
            raise failure.error from failure

    def gather(image: str, where: Span) -> Mapping[str, object]:
        return image_facts(image, resolver, platform, where, run, store)

    def image_tree(name: str, where: Span) -> str:
        bring_image(name, store, directory, environment, offline=request.offline)
        snapshot = run(image_tree_graph(name, resolver, platform, where), lambda _: None)
        made = store.scratch()
        write_shared(snapshot, store, made)
        return made

    world = DirectoryWorld(directory, store, environment, configuration, gather, resolver, image_tree)
    world.locking = request.locking
    return world


class PackagesOf:
    """Makes what composes packages, where the manifest has some; all of one graph share its nodes."""

    def __init__(
        self,
        file: str,
        request: BuildRequest,
        store: Store,
        environment: Mapping[str, str],
        configuration: Configuration,
        output: Callable[[bytes], None],
    ) -> None:
        self._file = file
        self._request = request
        self._store = store
        self._environment = environment
        self._configuration = configuration
        self._output = output
        self._looked: dict[str, str] = {}
        self.made: tuple[DefinitionFiles, PackageGraph] | None = None

    def __call__(self, stage: str) -> Packaging:
        """What gathers the packages of a stage."""
        from boxwright.frontends.container.packaging import Packaging

        if self.made is None:
            self.made = self._make()
        files, graph = self.made
        return Packaging(graph, files)

    def _make(self) -> tuple[DefinitionFiles, PackageGraph]:
        from boxwright.app.packages import PackageRequest, definition_files, resolver
        from boxwright.frontends.package.graph import PackageGraph
        from boxwright.store.packages import Packages

        asked = self._request
        request = PackageRequest(
            self._file,
            platform=asked.platform,
            mirror=asked.mirror,
            lock=asked.lock,
            locked=asked.locked,
            locking=asked.locking,
            offline=asked.offline,
        )
        outside = self._configuration.outside(asked.mirror, self._environment, offline=asked.offline)
        files = definition_files(request, Packages(self._store), self._environment, outside, self._output)
        files.locking = asked.locking
        files.watch(self._looked)
        platform = checked_platform(asked.platform)
        return files, PackageGraph(resolver(files, platform), platform)

    def looked(self) -> Mapping[str, str]:
        """The files that were looked at."""
        return self._looked


def plan_graph(
    request: BuildRequest,
    graph: Graph,
    file: str,
    directories: Mapping[str, str],
    store: Store,
    environment: Mapping[str, str],
) -> Build:
    """A plan for any graph whose files lie in these directories."""
    directory = os.path.dirname(os.path.abspath(file))
    configuration = configuration_for(directory, environment)
    moment = build_moment(environment, {}, directory)
    contexts = LocalContexts(store, directories, file, moment.epoch)
    sandbox = LateSandbox(store.home.cache)
    outside = configuration.outside(request.mirror, environment, offline=request.offline)
    fetcher = BaseFetcher(store, outside, request.lock, keep=request.locking)
    kinds, mounts = step_kinds(request, store, graph, contexts, sandbox, moment, environment, fetcher)
    options = RemoteOptions(request.remote_jobs, again=request.no_cache, offline=request.offline)
    workers = Workers(directory, environment, store, options)
    kinds, find_definition = _with_packages(kinds, graph, store, request, outside, workers)
    pull = frozenset(
        position
        for position, node in enumerate(graph.nodes)
        if request.pull and isinstance(node.step, Base) and node.step.pinned is None
    )
    find, room = finder(store), None
    if request.engine != "native":
        from boxwright.app.engines import LateRoom, engine_finder, engine_kinds

        room = LateRoom(request.engine, request.endpoints, store, environment)
        kinds = engine_kinds(kinds, mounts, room, store)
        find = engine_finder(find, graph, room, moment.epoch)
    again = frozenset(
        position
        for position, node in enumerate(graph.nodes)
        if request.no_cache and not isinstance(node.step, Base | BuildPackage | Fetch)
    )
    refuse = pull | again

    def planned() -> Build:
        keys = Keys(graph, kinds, find, pull, find_definition)
        plan = make_plan(graph, keys, refuse=refuse)
        made = Build(file, graph, plan, keys, refuse, sandbox, moment, contexts, mounts, workers=workers)
        return made._replace(room=room, find=find, again=planned, other=other)

    def other(graph: Graph) -> Build:
        return plan_graph(request, graph, file, directories, store, environment)

    return planned()


def _with_packages(
    kinds: Kinds, graph: Graph, store: Store, request: BuildRequest, outside: Outside, workers: Workers
) -> tuple[Kinds, Callable[..., Snapshot | None] | None]:
    """The kinds of packages too, where the graph has some."""
    if not any(isinstance(node.step, Compose | BuildPackage) for node in graph.nodes):
        return kinds, None
    from boxwright.app.composition import compose_kinds
    from boxwright.app.packages import package_kinds
    from boxwright.store.packages import Packages

    packages = Packages(store)
    whole = {
        **package_kinds(store, packages, outside, request.lock, keep=request.locking, run_action=workers.run_action),
        **kinds,
        **compose_kinds(store),
    }
    return whole, packages.by_definition


def execute_manifest(
    planned: ManifestBuild, request: BuildRequest, store: Store, emit: Emit
) -> tuple[tuple[BuiltImage, ...], Failed | None]:
    """Run the plan and record the image of every entry whose steps and validations all passed.

    Returns them, and the failure where there was one.
    """
    build, manifest = planned.build, planned.manifest
    for text in manifest.notes:
        emit(Message("warning", text))
    decided = zip(build.graph.nodes, build.plan.decisions, strict=True)
    if any(decision.action is Action.RUN and isinstance(node.step, BuildPackage) for node, decision in decided):
        from boxwright.sandbox.bubblewrap import require_bubblewrap

        require_bubblewrap()
    failure = None
    try:
        several = request._replace(keep_going=request.keep_going or len(manifest.entries) > 1)
        build = _executed(build, several, store, emit)
        planned = planned._replace(build=build)
    except Failed as failed:
        failure = failed
    else:
        History(store).keep(history_name(build, request), step_records(build))
        if any(isinstance(node.step, BuildPackage) for node in build.graph.nodes):
            from boxwright.app.packages import note_definitions

            note_definitions(build.graph, build.plan, build.keys, store)
    return tuple(_keep(entry, planned, request, store) for entry in _complete(planned)), failure


def _executed(build: Build, request: BuildRequest, store: Store, emit: Emit) -> Build:
    """Run the plan; where an endpoint of an engine is lost, plan anew what it alone held, and go on."""
    while True:
        try:
            execute_plan(build, request, store, emit)
        except Failed as failure:
            if (
                build.room is None
                or build.again is None
                or not build.room.goes_on(it.error for it in (failure, *failure.others))
            ):
                raise
            emit(Message("warning", f"{failure.error}: its work is done elsewhere"))
            build = build.again()
        else:
            return build


def _complete(planned: ManifestBuild) -> list[BuiltEntry]:
    """The entries of which everything is there."""
    keys = planned.build.keys
    return [
        entry
        for entry in planned.manifest.entries
        if all(keys.snapshot(position) is not None for position in (entry.target, *entry.gates))
    ]


def _keep(entry: BuiltEntry, planned: ManifestBuild, request: BuildRequest, store: Store) -> BuiltImage:
    snapshot = planned.build.keys.snapshot(entry.target)
    if snapshot is None:
        raise TypeError(entry.name)
    several = len(planned.manifest.entries) > 1
    names = tuple(image_name(name) for name in entry.names)
    if request.tags:
        names = tuple(_tag_of(tag, entry) for tag in request.tags) if several else request.tags
    image = Images(store).keep(entry.config, snapshot, names)
    describe_bases(planned.build.graph, image, store)
    return BuiltImage(entry, image, names)


def _tag_of(tag: str, entry: BuiltEntry) -> str:
    """``-t NAME`` of an entry of a matrix: each has its own."""
    values = [pair.partition("=")[2] for pair in entry.name.split(",")]
    suffix = "-".join("".join(c if c.isalnum() or c in "._-" else "-" for c in value) for value in values)
    return image_name(f"{tag}-{suffix}")
