"""The part of `build` that builds containers composed of packages."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Collection

from boxwright.app.composition import (
    ContainerBuild,
    bring_packages,
    execute_container,
    names_for,
    prepare_container,
    specification,
)
from boxwright.app.opening import open_store
from boxwright.app.packaging import check_packagings, packagings, write_packaged
from boxwright.app.sharing import Sharing, directory_of, sharing
from boxwright.cli.build import check_delivery, keep_limit, print_plan, print_summary, request_of
from boxwright.cli.console import say
from boxwright.cli.containerprogress import container_display, packaging_line
from boxwright.cli.packagebuild import discovered, is_shown, write_error
from boxwright.cli.packagebuild import request_of as package_request_of
from boxwright.errors import UsageError
from boxwright.model.image import Image
from boxwright.model.plan import Action
from boxwright.solver.scheduler import Failed
from boxwright.store.store import Store


def build_container(options: argparse.Namespace, file: str) -> int:
    """Build the container that `file` defines."""
    started = time.monotonic()
    check_delivery(options)
    if options.layers == "instructions":
        raise UsageError("usage.layers", "a container of packages has no instructions", hint="--layers auto")
    packages_request = package_request_of(options, file)
    request = request_of(options)._replace(lock=packages_request.lock, locked=packages_request.locked)
    with open_store(os.environ) as store:
        wanted, environment = discovered(options, store, push=options.push and not options.to_registry)
        planned = prepare_container(request, packages_request, store, environment, write_error)
        if not (options.output or options.load):
            check_packagings(planned.container, planned.build.graph.config, store)
        builds = any(decision.action is Action.RUN for decision in planned.build.plan.decisions)
        with sharing(wanted, directory_of(file), store, environment, builds=builds) as shared:
            if options.dry_run:
                print_plan(planned.build)
                return 0
            origins: dict[int, str] = {}
            directory = os.path.dirname(os.path.abspath(file))
            display = container_display(options.progress, planned, directory, origins, quiet=options.quiet)
            try:
                binaries = shared.binaries(store, display.emit, origins, planned.build.workers)
                planned = bring_packages(planned, store, display.emit, binaries, request.lock)
                image = execute_container(planned, request, store, display.emit)
            except Failed as failure:
                display.close()
                return _explain(failure, planned, store, options, display.tail)
            finally:
                display.close()
            _share(options, planned, image, store, shared, origins)
        built = any(decision.action is Action.RUN for decision in planned.build.plan.decisions)
    if built:
        keep_limit(planned.build, store.home.root)
    if options.iidfile:
        with open(options.iidfile, "w", encoding="ascii") as out:
            out.write(image.identity)
    if options.quiet:
        say(image.identity)
    elif options.progress == "json":
        display.result(image, time.monotonic() - started)
    else:
        print_summary(image, request.tags or (names_for((), planned.container),), time.monotonic() - started)
    return 0


def _share(
    options: argparse.Namespace,
    planned: ContainerBuild,
    image: Image,
    store: Store,
    shared: Sharing,
    origins: Collection[int],
) -> None:
    """Upload and write in the order in which the transcript has them: packages, images here, images there."""
    if not shared.pushed:
        _deliver(options, planned, image, store)
        return
    from boxwright.cli.uploading import upload_container, upload_packages

    shown = is_shown(options)
    upload_packages(shared, planned.build.graph, planned.build.keys, store, origins, shown=shown)
    _deliver(options, planned, image, store)
    names = request_of(options).tags or (names_for((), planned.container),)
    upload_container(shared, image, names, store, specification(planned), shown=shown)


def _deliver(options: argparse.Namespace, planned: ContainerBuild, image: Image, store: Store) -> None:
    """Write what the command line asks for; without it, what the definition does."""
    request = request_of(options)
    name = names_for(request.tags, planned.container)
    shown = not options.quiet and options.progress != "json"
    wanted = packagings(planned.container, image, store, name)
    if options.output or options.load:
        from boxwright.app.outputs import deliver, layers_for

        layers = layers_for(image, store, options.layers)
        for delivered in deliver(image, store, name, options.output, options.load, layers=layers):
            if shown:
                packaging_line(planned.container.title, delivered.kind, "OK")
    if options.to_registry:
        from boxwright.cli.registrypush import push_built

        push_built(image, store, options, ())
    if options.output or options.load:
        return
    for packaged in wanted:
        if not packaged.done:
            write_packaged(packaged, store, name)
        if shown:
            packaging_line(planned.container.title, packaged.wanted.type, "UP TO DATE" if packaged.done else "OK")


def _explain(
    failure: Failed,
    planned: ContainerBuild,
    store: Store,
    options: argparse.Namespace,
    tail: Callable[[int], list[str]],
) -> int:
    from boxwright.cli.failure import explain_failure
    from boxwright.cli.packagefailure import explain_package
    from boxwright.model.step import BuildPackage, TestPackage

    node = planned.build.graph.nodes[failure.position]
    if isinstance(node.step, BuildPackage | TestPackage):
        return explain_package(failure, planned.build.graph, tail)
    return explain_failure(failure, planned.build, store, debug=options.debug, tail=tail)
