"""A build from a definition to an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.app.bases import BaseFetcher, BaseResolver
from boxwright.app.configuration import configuration_for
from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import find_definition, read_definition
from boxwright.app.moment import Moment, build_moment
from boxwright.app.privileges import ensure_privileges
from boxwright.app.sandboxes import LateSandbox
from boxwright.events import Message, Planned
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph, proxy_args, unused_build_args
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import HistoryEntry, Image, Snapshot
from boxwright.model.plan import Action, Plan
from boxwright.model.step import Base, Copy, MakeDirectory, Run, Scratch
from boxwright.ports import Emit
from boxwright.solver.keys import Keys, Kinds
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Conditions, Failed, Scheduler
from boxwright.store.history import History, StepRecord, field_records
from boxwright.store.home import unusable
from boxwright.store.images import Images
from boxwright.store.store import Store

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
JOBS_PER_CPU = 8
DIRECTIVES_END = 4096


class BuildRequest(NamedTuple):
    """What the user asked for. `text` replaces the file's text (standard input)."""

    directory: str
    file: str | None = None
    text: str | None = None
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


class Build(NamedTuple):
    """A build that is planned and can be run."""

    definition: str
    graph: Graph
    plan: Plan
    keys: Keys
    refuse: frozenset[int]
    sandbox: LateSandbox
    moment: Moment
    unused_arguments: tuple[str, ...] = ()


def machine_platform() -> str:
    """The machine's platform as OCI names it."""
    machine = os.uname().machine
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm/v7"}.get(machine, machine)


def prepare(request: BuildRequest, store: Store, environment: Mapping[str, str]) -> Build:
    """Read the definition, make the graph and plan it. Runs nothing but what resolving a base needs."""
    file = find_definition(request.directory, request.file) if request.text is None else "-"
    text = request.text if request.text is not None else read_definition(file)
    if "error" in text[:DIRECTIVES_END] and "check" in text[:DIRECTIVES_END].lower():
        from boxwright.app.check import refuse_findings

        refuse_findings(request.directory, file, text)
    moment = build_moment(environment, request.build_args, request.directory)
    configuration = configuration_for(request.directory, environment)
    resolver = BaseResolver(store, pull=request.pull, configured=configuration.bases)
    options = RecipeOptions(
        build_args=request.build_args,
        target=request.target,
        platform=request.platform or machine_platform(),
        labels=request.labels,
        network=request.network,
        contexts=frozenset(request.contexts),
        validate=request.validate,
        marked=request.marked,
    )
    graph = build_graph(text, file, resolver=resolver, options=options)
    unused = unused_build_args(text, file, request.build_args) if request.build_args else ()
    contexts = LocalContexts(store, {"": request.directory, **request.contexts}, file, moment.epoch)
    sandbox = LateSandbox(store.home.cache)
    fetcher = BaseFetcher(store, mirror=request.mirror, mirrors=configuration.mirrors, environment=environment)
    kinds = _kinds(request, store, contexts, sandbox, moment, environment, fetcher)
    pull = _unpinned_bases(graph) if request.pull else frozenset()
    keys = Keys(graph, kinds, _finder(store), pull)
    refuse = pull | _steps(graph) if request.no_cache else pull
    keep = [item.node for item in graph.history if item.node is not None] if request.layers else ()
    plan = make_plan(graph, keys, refuse=refuse, keep=keep)
    return Build(file, graph, plan, keys, refuse, sandbox, moment, unused)


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


def _steps(graph: Graph) -> frozenset[int]:
    """Everything but the bases."""
    return frozenset(position for position, node in enumerate(graph.nodes) if not isinstance(node.step, Base))


def _kinds(
    request: BuildRequest,
    store: Store,
    contexts: LocalContexts,
    sandbox: LateSandbox,
    moment: Moment,
    environment: Mapping[str, str],
    fetcher: BaseFetcher,
) -> Kinds:
    from boxwright.steps.base import BaseKind
    from boxwright.steps.copy import CopyKind
    from boxwright.steps.run import RunKind
    from boxwright.steps.simple import MakeDirectoryKind, ScratchKind

    given = proxy_args(request.build_args)
    names = [name for lower in PROXIES for name in (lower, lower.upper()) if name not in dict(given)]
    proxies = given + tuple((name, environment[name]) for name in names if environment.get(name))
    return {
        Scratch: ScratchKind(store),
        Base: BaseKind(store, fetcher),
        MakeDirectory: MakeDirectoryKind(store),
        Copy: CopyKind(store, contexts, unpack=fetcher.unpack, is_archive=fetcher.is_archive),
        Run: RunKind(
            store,
            sandbox,
            layers_directory=store.home.layers,
            proxies=proxies,
            epoch_in_key=moment.epoch if moment.given else None,
        ),
    }


def execute(build: Build, request: BuildRequest, store: Store, emit: Emit) -> Image:
    """Run the plan and record the image."""
    emit(Planned(build.plan))
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
    return f"{os.path.realpath(build.definition)}#{request.target}"


def step_records(build: Build) -> tuple[StepRecord, ...]:
    """What went into each step of a build."""
    known = [(node, build.keys.of(position)) for position, node in enumerate(build.graph.nodes)]
    return tuple(StepRecord(node.title, item.key or "", field_records(item.fields or ())) for node, item in known)
