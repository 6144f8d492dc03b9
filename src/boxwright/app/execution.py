"""Runs a planned build, and says what went into it."""

from __future__ import annotations

import os
import time

from boxwright.app.allowed import check_allowed
from boxwright.app.build import Build
from boxwright.app.makers import keep_makers
from boxwright.app.privileges import ensure_privileges
from boxwright.app.request import BuildRequest
from boxwright.events import Message, Planned
from boxwright.model.graph import Graph
from boxwright.model.image import HistoryEntry, Image, Snapshot
from boxwright.model.plan import Action
from boxwright.model.step import Base, BuildPackage, Run
from boxwright.ports import Emit
from boxwright.solver.scheduler import Conditions, Failed, Records, Scheduler
from boxwright.store.history import History, StepRecord, field_records
from boxwright.store.home import unusable
from boxwright.store.images import Images
from boxwright.store.store import Store

JOBS_PER_CPU = 8


def execute(build: Build, request: BuildRequest, store: Store, emit: Emit) -> Image:
    """Run the plan and record the image."""
    started = int(time.time())
    snapshot = execute_plan(build, request, store, emit)
    History(store).keep(history_name(build, request), step_records(build))
    config = build.graph.config
    if config.databases:
        from boxwright.app.databases import with_content

        config = with_content(config, build.graph.databases, build.keys.snapshot, store)
    image = Images(store).keep(config, snapshot, request.tags)
    describe_bases(build.graph, image, store)
    ran = any(decision.action is Action.RUN for decision in build.plan.decisions)
    if ran or store.index.one("SELECT 1 FROM artifacts WHERE key=?", (f"provenance {image.identity}",)) is None:
        from boxwright.app.provenance import keep_provenance

        keep_provenance(build, request, image, store, started=started)
    return image


def describe_bases(graph: Graph, image: Image, store: Store) -> None:
    """Let an image that was made from local ones say of their packages what these say now."""
    if any(isinstance(node.step, Base) and node.step.source == "image" for node in graph.nodes):
        from boxwright.app.descriptions import inherit_descriptions

        inherit_descriptions(graph, image, store)


def execute_plan(build: Build, request: BuildRequest, store: Store, emit: Emit) -> Snapshot:
    """Run the plan; returns the target's snapshot. Who made each layer is remembered."""
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
    start_sandbox(build)
    jobs = request.jobs or (os.cpu_count() or 1) * JOBS_PER_CPU
    conditions = Conditions(jobs, build.moment.epoch, request.keep_times, build.refuse, keep_going=request.keep_going)
    try:
        if build.workers is not None and _builds_packages(build):
            conditions = conditions._replace(jobs=build.workers.open(jobs, emit), place=build.workers.place)
        records: Records = store
        if build.room is not None and build.find is not None:
            from boxwright.app.engines import EngineRecords

            records = EngineRecords(store, build.find)
        snapshot = Scheduler(build.graph, build.plan, build.keys, records, emit, conditions).run()
        _record_there(build, store)
    except Failed as failure:
        _record_there(build, store)
        if isinstance(failure.error, OSError) and not isinstance(failure.error, BrokenPipeError):
            failure.error = unusable(store.home.root, failure.error)
        raise
    finally:
        build.sandbox.close()
        if build.room is not None:
            build.room.close()
        build.mounts.close()
        if build.workers is not None:
            build.workers.close()
    keep_makers(build.graph, build.keys, snapshot, store)
    return snapshot


def _record_there(build: Build, store: Store) -> None:
    """Servers know then by their identities which packages they have."""
    if build.workers is not None and _builds_packages(build):
        from boxwright.app.packages import record_there

        record_there(build.workers, build.graph, build.plan, build.keys, store)


def _builds_packages(build: Build) -> bool:
    decided = zip(build.graph.nodes, build.plan.decisions, strict=True)
    return any(decision.action is Action.RUN and isinstance(node.step, BuildPackage) for node, decision in decided)


def start_sandbox(build: Build) -> None:
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
