"""A build from a definition to an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from boxwright.app.allowed import check_allowed
from boxwright.app.bases import BaseFetcher, BaseResolver
from boxwright.app.configuration import configuration_for
from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import find_definition, read_definition
from boxwright.app.givens import KEEP_GIT_DIR, Given, Named
from boxwright.app.moment import Moment, build_moment
from boxwright.app.mounts import LateMounts, MountOptions
from boxwright.app.privileges import ensure_privileges
from boxwright.app.sandboxes import LateSandbox
from boxwright.errors import UsageError
from boxwright.events import Message, Planned
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph, proxy_args, unused_build_args
from boxwright.frontends.recipe.predefined import same_platform
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import HistoryEntry, Image, Snapshot
from boxwright.model.plan import Action, Plan
from boxwright.model.step import Base, ContextSource, Copy, Fetch, MakeDirectory, Run, Scratch, Step
from boxwright.ports import Emit, StepKind
from boxwright.solver.keys import Keys, Kinds
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Conditions, Failed, Scheduler
from boxwright.store.history import History, StepRecord, field_records
from boxwright.store.home import unusable
from boxwright.store.images import Images
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.steps.run import RunConditions

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
JOBS_PER_CPU = 8
DIRECTIVES_END = 4096


class BuildRequest(NamedTuple):
    """What the user asked for. `directory` may be anything that `app.given` makes a context of.

    `text` replaces the file's text, `stdin` is read where the context is ``-``. `contexts` are by their names as
    `frontends.recipe.options.context_name` has them.
    """

    directory: str
    file: str | None = None
    text: str | None = None
    stdin: BinaryIO | None = None
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str] = MappingProxyType({})
    labels: tuple[tuple[str, str], ...] = ()
    target: str = ""
    platform: str = ""
    network: str = "default"
    contexts: Mapping[str, str] = MappingProxyType({})
    mirror: str | None = None
    no_cache: bool = False
    pull: bool = False
    jobs: int = 0
    keep_times: bool = False
    validate: tuple[str, ...] = ()
    marked: bool = True
    layers: bool = False
    mounts: MountOptions | None = None
    conditions: RunConditions | None = None
    allowed: frozenset[str] = frozenset()
    no_cache_stages: frozenset[str] = frozenset()


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


def machine_platform() -> str:
    """The machine's platform as OCI names it."""
    machine = os.uname().machine
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm/v7"}.get(machine, machine)


def prepare(request: BuildRequest, store: Store, environment: Mapping[str, str]) -> Build:
    """Read the definition, make the graph and plan it. Runs nothing but what resolving a base needs."""
    given, file, text = _given(request, store)
    if "error" in text[:DIRECTIVES_END] and "check" in text[:DIRECTIVES_END].lower():
        from boxwright.app.check import refuse_findings

        refuse_findings(given.directory, file, text)
    moment = build_moment(
        environment, request.build_args, None if given.fetched else given.directory, committed=given.committed
    )
    # A stranger's tree says nothing about this machine's bases and mirrors.
    configuration = configuration_for(store.scratch() if given.fetched else given.directory, environment)
    resolver = BaseResolver(store, pull=request.pull, configured=configuration.bases)
    named = _named(request)
    options = RecipeOptions(
        build_args=request.build_args,
        target=request.target,
        platform=_platform(request.platform),
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
    contexts = _contexts(given, named.trees, file, graph, store, moment)
    sandbox = LateSandbox(store.home.cache)
    fetcher = BaseFetcher(store, mirror=request.mirror, mirrors=configuration.mirrors, environment=environment)
    kinds, mounts = _kinds(request, store, graph, contexts, sandbox, moment, environment, fetcher)
    pull = _unpinned_bases(graph) if request.pull else frozenset()
    keys = Keys(graph, kinds, _finder(store), pull)
    refuse = pull | _again(graph, request)
    keep = [item.node for item in graph.history if item.node is not None] if request.layers else ()
    plan = make_plan(graph, keys, refuse=refuse, keep=keep)
    return Build(file, graph, plan, keys, refuse, sandbox, moment, contexts, mounts, unused)


def _given(request: BuildRequest, store: Store) -> tuple[Given, str, str]:
    """The main context, the definition's file and its text."""
    if os.path.isdir(request.directory):
        given = Given(request.directory)
    else:
        from boxwright.app.given import open_context

        keep = request.build_args.get(KEEP_GIT_DIR) in ("1", "true")
        given = open_context(request.directory, store, request.stdin, keep_git_dir=keep)
    if request.text is not None:
        return given, "-", request.text
    if not given.fetched:
        file = find_definition(given.directory, request.file)
        return given, file, read_definition(file)
    from boxwright.app.given import definition_of

    return given, *definition_of(given, request.file)


def _named(request: BuildRequest) -> Named:
    if not request.contexts:
        return Named()
    from boxwright.app.given import named_contexts

    return named_contexts(request.contexts)


def _contexts(
    given: Given, trees: Mapping[str, str], file: str, graph: Graph, store: Store, moment: Moment
) -> LocalContexts:
    """The contexts, of which those that must be fetched are fetched where the graph takes something from them."""
    directories = {"": given.directory}
    fetched = {""} if given.fetched else set()
    for name, word in trees.items():
        directories[name] = word
        if not os.path.isdir(word) and name in used_contexts(graph):
            from boxwright.app.given import open_named

            tree = open_named(word, name, store)
            directories[name] = tree.directory
            fetched |= {name} if tree.fetched else set()
    return LocalContexts(store, directories, file, moment.epoch, fetched)


def used_contexts(graph: Graph) -> frozenset[str]:
    """The named contexts that steps of a graph take something from."""
    copied = (
        source.context
        for node in graph.nodes
        if isinstance(node.step, Copy)
        for source in node.step.sources
        if isinstance(source, ContextSource)
    )
    mounted = (
        dict(mount.options).get("context", "")
        for node in graph.nodes
        if isinstance(node.step, Run)
        for mount in node.step.mounts
    )
    return frozenset((*copied, *mounted)) - {""}


def _platform(asked: str) -> str:
    """The platform that is built for. Raises UsageError `usage.platform` for another one than this machine's."""
    own = machine_platform()
    if asked and not same_platform(asked, own):
        raise UsageError(
            "usage.platform",
            f"--platform {asked}: this machine builds for {own}",
            hint="leave it out, or build on a machine of that platform",
        )
    return own


def _finder(store: Store) -> Callable[[Digest], Snapshot | None]:
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


def _kinds(
    request: BuildRequest,
    store: Store,
    graph: Graph,
    contexts: LocalContexts,
    sandbox: LateSandbox,
    moment: Moment,
    environment: Mapping[str, str],
    fetcher: BaseFetcher,
) -> tuple[Kinds, LateMounts]:
    from boxwright.steps.base import BaseKind
    from boxwright.steps.copy import CopyKind
    from boxwright.steps.run import RunConditions, RunKind
    from boxwright.steps.simple import MakeDirectoryKind, ScratchKind

    given = proxy_args(request.build_args)
    names = [name for lower in PROXIES for name in (lower, lower.upper()) if name not in dict(given)]
    proxies = given + tuple((name, environment[name]) for name in names if environment.get(name))
    kinds: dict[type[Step], StepKind] = {
        Scratch: ScratchKind(store),
        Base: BaseKind(store, fetcher),
        MakeDirectory: MakeDirectoryKind(store),
        Copy: CopyKind(store, contexts, unpack=fetcher.unpack, is_archive=fetcher.is_archive),
    }
    fetches = [node.step for node in graph.nodes if isinstance(node.step, Fetch)]
    if fetches:
        from boxwright.app.remotes import Remotes
        from boxwright.steps.fetch import FetchKind

        remotes = Remotes(store)
        remotes.identify_all(fetches)
        kinds[Fetch] = FetchKind(store, remotes)
    mounts = LateMounts(store, contexts, request.mounts or MountOptions(), kinds)
    conditions = (request.conditions or RunConditions())._replace(
        proxies=proxies, time_in_key=moment.epoch if moment.given else None
    )
    kinds[Run] = RunKind(store, sandbox, layers_directory=store.home.layers, conditions=conditions, mounts=mounts)
    return kinds, mounts


def execute(build: Build, request: BuildRequest, store: Store, emit: Emit) -> Image:
    """Run the plan and record the image."""
    check_allowed(build.graph, request.allowed)
    emit(Planned(build.plan))
    stages = {node.stage for node in build.graph.nodes}
    for name in sorted(request.no_cache_stages - stages):
        emit(Message("warning", f"--no-cache-filter {name}: this build has no such stage"))
    for name in build.unused_arguments:
        emit(Message("warning", f"--build-arg {name}: no ARG of the recipe declares it"))
    store.touch([decision.key for decision in build.plan.decisions if decision.action is Action.REUSE and decision.key])
    if any(decision.action is Action.RUN for decision in build.plan.decisions):
        ensure_privileges()
    _start_sandbox(build)
    jobs = request.jobs or (os.cpu_count() or 1) * JOBS_PER_CPU
    conditions = Conditions(jobs, build.moment.epoch, request.keep_times, build.refuse)
    try:
        snapshot = Scheduler(build.graph, build.plan, build.keys, store, emit, conditions).run()
    except Failed as failure:
        if isinstance(failure.error, OSError):
            failure.error = unusable(store.home.root, failure.error)
        raise
    finally:
        build.sandbox.close()
        build.mounts.close()
    History(store).keep(history_name(build, request), step_records(build))
    return Images(store).keep(build.graph.config, snapshot, request.tags)


def _start_sandbox(build: Build) -> None:
    """Fork the launcher where there is something to run, as long as this process has one thread."""
    decided = zip(build.graph.nodes, build.plan.decisions, strict=True)
    runs = [node.step for node, decision in decided if decision.action is Action.RUN and isinstance(node.step, Run)]
    if runs:
        launcher = build.sandbox.start()
        if any(run.network == "default" for run in runs):
            launcher.prepare_network()


def layered(build: Build) -> tuple[HistoryEntry, ...]:
    """The way to a built image, one entry for each instruction; the plan was made with `layers`."""
    entries = [
        (item.text, None if item.node is None else build.keys.snapshot(item.node)) for item in build.graph.history
    ]
    return tuple(HistoryEntry(" ".join(text.split()), snapshot) for text, snapshot in entries)


def history_name(build: Build, request: BuildRequest) -> str:
    """Under which name the builds of this definition are remembered."""
    if not os.path.isdir(request.directory):
        return f"{request.directory}#{request.file or ''}#{request.target}"
    return f"{os.path.realpath(build.definition)}#{request.target}"


def step_records(build: Build) -> tuple[StepRecord, ...]:
    """What went into each step of a build."""
    known = [(node, build.keys.of(position)) for position, node in enumerate(build.graph.nodes)]
    return tuple(StepRecord(node.title, item.key or "", field_records(item.fields or ())) for node, item in known)
