"""The part of `build` that builds packages."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping

from boxwright.app.definitions import LOCK, lock_path
from boxwright.app.opening import open_store
from boxwright.app.packages import PackageBuild, PackageRequest, execute_package, prepare_package
from boxwright.app.platforms import planned_platform
from boxwright.app.sharing import Sharing, SharingRequest, directory_of, sharing
from boxwright.cli.console import human_size, note, say
from boxwright.cli.packageprogress import package_display, package_result
from boxwright.errors import DefinitionError
from boxwright.events import Event, Message
from boxwright.model.digest import Digest, hex_of, short
from boxwright.model.package import PackageRecord
from boxwright.model.plan import Action
from boxwright.solver.scheduler import Failed
from boxwright.store.store import Store


def build_package(options: argparse.Namespace, file: str) -> int:
    """Build the package that `file` defines."""
    started = time.monotonic()
    request = request_of(options, file)
    with open_store(os.environ) as store:
        wanted, environment = discovered(options, store, push=options.push)
        build = prepare_package(request, store, environment, write_error)
        builds = any(decision.action is Action.RUN for decision in build.plan.decisions)
        with sharing(wanted, directory_of(file), store, environment, builds=builds) as shared:
            if options.dry_run:
                print_plan(offered(build, shared, store))
                return 0
            origins: dict[int, str] = {}
            display = package_display(options.progress, build, origins, quiet=options.quiet)
            try:
                binaries = shared.binaries(store, display.emit, origins, build.workers)
                record = execute_package(build, request, store, display.emit, binaries)
            except Failed as failure:
                display.close()
                from boxwright.cli.packagefailure import explain_package

                return explain_package(failure, build.graph, display.tail)
            finally:
                display.close()
            if shared.pushed:
                from boxwright.cli.uploading import upload_packages

                upload_packages(shared, build.graph, build.keys, store, origins, shown=is_shown(options))
    if options.iidfile:
        with open(options.iidfile, "w", encoding="ascii") as out:
            out.write(record.key)
    definition = build.keys.definition(build.package) or record.definition
    if options.quiet:
        say(definition)
    elif options.progress == "json":
        package_result(record, definition, time.monotonic() - started)
    else:
        _summary(record, definition, time.monotonic() - started)
    return 0


def discovered(options: argparse.Namespace, store: Store, *, push: bool) -> tuple[SharingRequest, Mapping[str, str]]:
    """What the command line says about repositories, and the environment with the trees that ``--discover`` found."""
    if not options.discover:
        return SharingRequest((), push, options.offline), os.environ
    from boxwright.app.discovery import discover

    found = discover(options.discover, store, offline=options.offline)
    request = SharingRequest(found.files, push or found.push, options.offline)
    return request, found.environment(os.environ)


def is_shown(options: argparse.Namespace) -> bool:
    """Whether lines about the work are printed."""
    return not options.quiet and options.progress != "json"


def offered(build: PackageBuild, shared: Sharing, store: Store) -> PackageBuild:
    """The build with a plan that says what repositories have."""
    binaries = shared.binaries(store, note_event, {}, build.workers)
    if binaries is None:
        return build
    from boxwright.app.binaries import Target

    try:
        return build._replace(plan=binaries.plan(Target(build.graph, build.keys, build.refuse), build.plan))
    finally:
        build.workers.close()


def note_event(event: Event) -> None:
    """A message where there is no display."""
    if isinstance(event, Message):
        note(f"{event.level}: {event.text}")


def request_of(options: argparse.Namespace, file: str) -> PackageRequest:
    """What the command line asks for."""
    lock = None
    if os.path.exists(lock_path(file)):
        from boxwright.app.locks import read_lock

        lock = read_lock(file, planned_platform(options.platform))
    elif options.locked:
        raise DefinitionError("lock.none", f"there is no {LOCK} beside {file}", hint="run `boxwright lock`")
    return PackageRequest(
        file,
        lock=lock,
        locked=lock is not None,
        offline=options.offline,
        remote_jobs=options.remote_jobs,
        platform=options.platform,
        mirror=options.mirror,
        no_cache=options.no_cache,
        jobs=options.jobs,
        keep_going=options.keep_going,
        test=not options.no_test,
        pull=options.pull,
    )


def write_error(data: bytes) -> None:
    """What is fetched before there is a graph, as it comes."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def print_plan(build: PackageBuild) -> None:
    """What would be done."""
    for position, (node, decision) in enumerate(zip(build.graph.nodes, build.plan.decisions, strict=True)):
        shown = "CACHED" if decision.action in (Action.REUSE, Action.UNUSED) else decision.action.value.upper()
        key = build.keys.definition(position) or decision.key
        say(f"{shown:<7} {short(key) if key else '-' * 12}  {node.title}  ({decision.reason})")


def _summary(record: PackageRecord, definition: Digest, seconds: float) -> None:
    say(f"{record.name}  {hex_of(definition)}  {human_size(record.record['size'])}  {seconds:.2f} s")
