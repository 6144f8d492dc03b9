"""The part of `build` that builds packages."""

from __future__ import annotations

import argparse
import os
import sys
import time

from boxwright.app.definitions import LOCK, lock_path
from boxwright.app.opening import open_store
from boxwright.app.packages import PackageBuild, PackageRequest, execute_package, prepare_package
from boxwright.app.platforms import machine_platform
from boxwright.cli.console import human_size, say
from boxwright.cli.packageprogress import package_display, package_result
from boxwright.errors import DefinitionError
from boxwright.model.digest import Digest, hex_of, short
from boxwright.model.package import PackageRecord
from boxwright.model.plan import Action
from boxwright.solver.scheduler import Failed


def build_package(options: argparse.Namespace, file: str) -> int:
    """Build the package that `file` defines."""
    started = time.monotonic()
    request = request_of(options, file)
    with open_store(os.environ) as store:
        build = prepare_package(request, store, os.environ, write_error)
        if options.dry_run:
            print_plan(build)
            return 0
        display = package_display(options.progress, build, quiet=options.quiet)
        try:
            record = execute_package(build, request, store, display.emit)
        except Failed as failure:
            display.close()
            from boxwright.cli.packagefailure import explain_package

            return explain_package(failure, build.graph, display.tail)
        finally:
            display.close()
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


def request_of(options: argparse.Namespace, file: str) -> PackageRequest:
    """What the command line asks for."""
    lock = None
    if os.path.exists(lock_path(file)):
        from boxwright.app.locks import read_lock

        lock = read_lock(file, options.platform or machine_platform())
    elif options.locked:
        raise DefinitionError("lock.none", f"there is no {LOCK} beside {file}", hint="run `boxwright lock`")
    return PackageRequest(
        file,
        lock=lock,
        locked=lock is not None,
        offline=options.offline,
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
