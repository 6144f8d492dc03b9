"""The part of `build` that builds manifests."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping

from boxwright.app.build import Build
from boxwright.app.manifest.building import (
    BuiltImage,
    ManifestBuild,
    ManifestRequest,
    execute_manifest,
    prepare_manifest,
)
from boxwright.app.opening import open_store
from boxwright.app.request import BuildRequest
from boxwright.app.sharing import Sharing, SharingRequest, directory_of, sharing
from boxwright.cli.arguments import pair
from boxwright.cli.build import keep_limit, print_plan, print_summary, reported, request_of
from boxwright.cli.console import say
from boxwright.cli.progress import display_for
from boxwright.errors import UsageError
from boxwright.model.plan import Action
from boxwright.model.step import BuildPackage
from boxwright.ports import Emit
from boxwright.store.store import Store


def build_manifest(options: argparse.Namespace, file: str) -> int:
    """Build what the manifest `file` defines."""
    if options.output or options.load:
        from boxwright.app.outputs import check_outputs

        check_outputs(options.output, options.load)
    _refuse_foreign(options)
    if options.watch:
        from boxwright.cli.manifestwatch import watch

        return watch(options, file)
    return build_once(options, file)[0]


def build_once(options: argparse.Namespace, file: str) -> tuple[int, ManifestBuild]:
    """Build it as it is now; returns the exit status too."""
    started = time.monotonic()
    request = request_of(options)
    with open_store(os.environ) as store:
        wanted, environment = _discovered(options, store)
        planned = prepare_manifest(request, manifest_request(options, file), store, environment, _write_error)
        if options.dry_run:
            print_plan(planned.build)
            return 0, planned
        decided = zip(planned.build.graph.nodes, planned.build.plan.decisions, strict=True)
        builds = any(it.action is Action.RUN and isinstance(node.step, BuildPackage) for node, it in decided)
        with sharing(wanted, directory_of(file), store, environment, builds=builds) as shared:
            origins: dict[int, str] = {}
            if options.interactive:
                planned, images = _walk(options, request, file, planned, store, (shared, origins))
                status = int(not images)
            else:
                status, planned, images = _run(options, request, file, planned, store, (shared, origins))
            _deliver(options, images, store)
            if not status:
                _share(options, planned, images, store, (shared, origins))
    if options.interactive or any(it.action is Action.RUN for it in planned.build.plan.decisions):
        keep_limit(planned.build, store.home.root)
    _say_results(options, images, time.monotonic() - started)
    return status, planned


def prepared(options: argparse.Namespace, file: str) -> ManifestBuild:
    """What it would be built to now; nothing is run but what its templates ask for."""
    with open_store(os.environ) as store:
        _, environment = _discovered(options, store)
        asked = manifest_request(options, file)
        planned = prepare_manifest(request_of(options), asked, store, environment, _write_error)
        build = planned.build
        for opened in (build.sandbox, build.room, build.mounts, build.workers):
            if opened is not None:
                opened.close()
        return planned


def _discovered(options: argparse.Namespace, store: Store) -> tuple[SharingRequest, Mapping[str, str]]:
    """What the command line says about repositories."""
    push = options.push and not options.to_registry
    if not options.discover:
        return SharingRequest((), push, options.offline), os.environ
    from boxwright.cli.packagebuild import discovered

    return discovered(options, store, push=push)


def manifest_request(options: argparse.Namespace, file: str) -> ManifestRequest:
    """What the command line says to a manifest."""
    variables: dict[str, object] = dict(variable(item) for item in options.set)
    for item in options.set_file:
        name, path = pair(item, "--set-file")
        from boxwright.app.definitions import read_definition

        variables[_name(name)] = read_definition(path)
    return ManifestRequest(file, variables, dict(pair(item, "--matrix") for item in options.matrix))


def variable(item: str) -> tuple[str, object]:
    """Of ``--set``: ``NAME=VALUE``; text, or YAML where it begins with a bracket."""
    name, value = pair(item, "--set")
    if not value.startswith(("[", "{")) or value.startswith(("{{", "{%")):
        return _name(name), value
    from boxwright.frontends.package.document import parse_value, plain

    found = parse_value(value, f"--set {name}")
    return _name(name), None if found is None else plain(found)


def _name(name: str) -> str:
    if not name.isidentifier():
        raise UsageError("usage.set", f"{name!r} can't be the name of a variable", hint="letters, digits and _")
    return name


def _refuse_foreign(options: argparse.Namespace) -> None:
    """Options that mean something to recipes alone."""
    for name in ("target", "layers", "build_arg", "build_context"):
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            hint = "--set NAME=VALUE sets a variable" if name == "build_arg" else "leave it out"
            raise UsageError("usage.manifest", f"{flag} means nothing to a manifest", hint=hint)


def _bring(planned: ManifestBuild, store: Store, repositories: tuple[Sharing, dict[int, str]], emit: Emit) -> Build:
    """The build with what repositories have of it."""
    shared, origins = repositories
    binaries = shared.binaries(store, emit, origins, planned.build.workers)
    if binaries is None:
        return planned.build
    from boxwright.app.composition import bring_into

    return bring_into(planned.build, store, emit, binaries, planned.lock)


def _run(
    options: argparse.Namespace,
    request: BuildRequest,
    file: str,
    planned: ManifestBuild,
    store: Store,
    repositories: tuple[Sharing, dict[int, str]],
) -> tuple[int, ManifestBuild, tuple[BuiltImage, ...]]:
    display = display_for(options.progress, planned.build.graph, quiet=options.quiet)
    emit, report = reported(options.junit, planned.build, display)
    try:
        planned = planned._replace(build=_bring(planned, store, repositories, emit))
        images, failure = execute_manifest(planned, request, store, emit)
    finally:
        display.close()
        report()
    if failure is None:
        return 0, planned, images
    from boxwright.cli.failure import explain_failure
    from boxwright.cli.interactivebuild import can_debug

    walks = can_debug(options) and len(planned.manifest.entries) == 1
    status = explain_failure(failure, planned.build, store, debug=options.debug, tail=display.tail, walks=walks)
    if walks:
        planned, images = _walk(options, request, file, planned, store, repositories, failure.position)
        status = 0 if images else status
    return status, planned, images


def _walk(
    options: argparse.Namespace,
    request: BuildRequest,
    file: str,
    planned: ManifestBuild,
    store: Store,
    repositories: tuple[Sharing, dict[int, str]],
    failed: int | None = None,
) -> tuple[ManifestBuild, tuple[BuiltImage, ...]]:
    from boxwright.cli.interactivebuild import walk_manifest

    def bring(build: Build, emit: Emit) -> Build:
        return _bring(planned._replace(build=build), store, repositories, emit)

    return walk_manifest(planned, manifest_request(options, file), request, store, options, bring, failed)


def _deliver(options: argparse.Namespace, images: tuple[BuiltImage, ...], store: Store) -> None:
    if not images or not (options.output or options.load):
        return
    from boxwright.app.outputs import deliver

    if len(images) > 1:
        raise UsageError("usage.output", "a matrix gives several images", hint="choose one with --matrix NAME=VALUE")
    name = images[0].names[0] if images[0].names else ""
    deliver(images[0].image, store, name, options.output, options.load)


def _share(
    options: argparse.Namespace,
    planned: ManifestBuild,
    images: tuple[BuiltImage, ...],
    store: Store,
    repositories: tuple[Sharing, dict[int, str]],
) -> None:
    """What ``--push`` asks for: packages and images to repositories, or images to registries under their names."""
    shared, origins = repositories
    if options.to_registry:
        from boxwright.cli.registrypush import push_built

        for it in images:
            push_built(it.image, store, argparse.Namespace(**{**vars(options), "tag": it.names}), ())
    if not shared.pushed:
        return
    from boxwright.cli.packagebuild import is_shown
    from boxwright.cli.uploading import upload_container, upload_packages

    shown = is_shown(options)
    if any(isinstance(node.step, BuildPackage) for node in planned.build.graph.nodes):
        upload_packages(shared, planned.build.graph, planned.build.keys, store, origins, shown=shown)
    for it in images:
        upload_container(shared, it.image, it.names, store, b"", shown=shown)


def _say_results(options: argparse.Namespace, images: tuple[BuiltImage, ...], seconds: float) -> None:
    if options.iidfile and images:
        with open(options.iidfile, "w", encoding="ascii") as out:
            out.write("\n".join(it.image.identity for it in images))
    for it in images:
        if options.quiet:
            say(it.image.identity)
        elif options.progress != "json":
            print_summary(it.image, it.names, seconds)


def _write_error(data: bytes) -> None:
    """What is said while the definition is read."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
