"""Build an image from a recipe (Dockerfile), a manifest or packages (container.yaml), or one package (pkg.yaml)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from boxwright.app.build import Build, prepare
from boxwright.app.definitions import find_definition, is_container, is_manifest, is_package
from boxwright.app.execution import execute, layered
from boxwright.app.names import image_name
from boxwright.app.opening import open_store
from boxwright.app.request import BuildRequest
from boxwright.cli import conditions
from boxwright.cli.arguments import build_args, named, pair
from boxwright.cli.console import human_size, note, say
from boxwright.cli.progress import Display, display_for
from boxwright.errors import UsageError
from boxwright.model.digest import short
from boxwright.model.image import Image
from boxwright.model.plan import Action
from boxwright.model.step import Run
from boxwright.ports import Emit
from boxwright.solver.scheduler import Failed
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.outputs import Delivered

SPELT_OTHERWISE = frozenset({"--layers", "--load", "-o", "--output"})
"""Options of ours that other builders have too, with other values."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `build`."""
    add = parser.add_argument
    add(
        "directory",
        nargs="?",
        default=".",
        metavar="CONTEXT",
        help="the build context: a directory, a tar, an address, -",
    )
    add("-f", "--file", help="the definition; - reads it from standard input")
    add("-t", "--tag", action="append", default=[], help="name the image; repeatable")
    add("-o", "--output", action="append", default=[], metavar="TYPE:DEST", help="write the image; repeatable")
    add("--load", action="append", default=[], metavar="ENGINE", help="load the image into docker, podman or lxd")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]")
    add("--label", action="append", default=[], metavar="NAME=VALUE")
    add("--build-context", action="append", default=[], metavar="NAME=CONTEXT")
    add("--target", default="", help="the stage to build")
    add("--validate", action="append", default=[], metavar="STAGE", help="a stage that must pass; repeatable")
    add("--no-validate", action="store_true", help="leave out the stages that the recipe marks with '# validate'")
    add("--junit", metavar="FILE", help="write the results of the validation stages as JUnit XML")
    add("--layers", default="", metavar="HOW", help="auto:N: at most N layers; alone: one for each instruction")
    add("--push", action="store_true", help="upload to the configured repositories, else under its names to registries")
    add("--insecure", action="store_true", help="push: take plain HTTP and certificates that nobody vouches for")
    add("--tls-verify", choices=("true", "false"), default="true", metavar="BOOL", help="false: as --insecure")
    add("--platform", default="", help="only the machine's own, such as linux/amd64")
    add("--network", default="default", choices=("none", "default", "host"))
    conditions.configure_build(parser)
    add("--mirror", help="the package mirror for base systems")
    add("--no-cache", action="store_true", help="run every step again")
    add("--pull", action="store_true", help="fetch bases again")
    add("--jobs", type=int, default=0, help="steps at once")
    add("--remote-jobs", type=int, metavar="N", help="packages: built at once on a Remote Execution server; 0: none")
    add("--keep-going", action="store_true", help="packages: after a failure build what doesn't need it")
    add("--no-test", action="store_true", help="packages: leave the package's tests out")
    add("--timestamps", choices=("clamp", "keep"), default="clamp", help="keep: leave times as steps make them")
    add("--progress", choices=("auto", "live", "plain", "json"), default="auto")
    add("-q", "--quiet", action="store_true", help="print the image's digest alone")
    add("--iidfile", help="write the image's digest to a file")
    add("--metadata-file", help="write what was built to a JSON file")
    add("--discover", action="append", default=[], metavar="PLACE[,push=True]", help="take configuration from there")
    add("--locked", action="store_true", help="fetch nothing that boxwright.lock does not pin")
    add("--offline", action="store_true", help="fetch nothing at all")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="manifests: a variable; YAML in [] or {}")
    add("--set-file", action="append", default=[], metavar="NAME=PATH", help="manifests: a variable from a file")
    add("--matrix", action="append", default=[], metavar="NAME=VALUE", help="manifests: only entries of this value")
    add("--engine", default="native", metavar="NAME", help="manifests: native, podman, docker, lxc or lxd")
    add("--endpoint", action="append", default=[], metavar="ADDRESS", help="manifests: where the engine is; repeatable")
    add("--watch", action="store_true", help="manifests: build again whenever files or key/value data change")
    add("--dry-run", action="store_true", help="print the plan")
    add("-i", "--interactive", action="store_true", help="walk the steps of a recipe or a manifest at a prompt")
    add("--debug", action="store_true", help="open that prompt at a step that failed")


def own_words(given: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The command line with other builders' flags turned into ours. What holds none costs nothing."""
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no other way to ask
    plain = all(
        not word.startswith("-") or (word in known and word not in SPELT_OTHERWISE) or word in ("-", "--")
        for word in given
    )
    if plain:
        return given
    from boxwright.cli.foreign import adapted

    return adapted(given, parser)


def run(options: argparse.Namespace) -> int:
    """Build what the definition is of."""
    options.to_registry = options.push and not _has_repository(options)
    if options.interactive:
        from boxwright.cli.interactivebuild import check_interactive

        check_interactive(options)
    if options.file != "-" and os.path.isdir(options.directory):
        definition = find_definition(options.directory, options.file)
        if is_package(definition):
            from boxwright.cli.packagebuild import build_package

            return build_package(options, definition)
        if is_container(definition):
            from boxwright.cli.containerbuild import build_container

            return build_container(options, definition)
        if is_manifest(definition):
            from boxwright.cli.manifestbuild import build_manifest

            return build_manifest(options, definition)
    return _build_image(options)


def _has_repository(options: argparse.Namespace) -> bool:
    """Whether ``--push`` means repositories: one is configured, or ``--discover`` says where."""
    if options.discover:
        return True
    from boxwright.app.definitions import find_definition
    from boxwright.cli.binarypush import writable

    if not os.path.isdir(options.directory):
        return writable(os.getcwd())
    if options.file == "-":
        return writable(options.directory)
    return writable(os.path.dirname(os.path.abspath(find_definition(options.directory, options.file))))


def _build_image(options: argparse.Namespace) -> int:
    started = time.monotonic()
    request = request_of(options)
    check_delivery(options)
    with open_store(os.environ) as store:
        build = prepare(request, store, os.environ)
        if options.dry_run:
            print_plan(build)
            return 0
        display = display_for(options.progress, build.graph, quiet=options.quiet)
        if options.interactive:
            status, build, image = _walked(options, build, request, store)
        else:
            status, build, image = _executed(options, build, request, store, display)
        if image is None:
            return status
        delivered = _deliver(options, build, image, store)
        if (options.push or options.discover) and not options.to_registry:
            _upload(options, image, request, store)
        built = options.interactive or any(decision.action is Action.RUN for decision in build.plan.decisions)
    if built:
        keep_limit(build, store.home.root)
        if not options.quiet and options.progress != "json":
            _note_warnings(request)
    if options.iidfile:
        with open(options.iidfile, "w", encoding="ascii") as file:
            file.write(image.identity)
    if options.metadata_file:
        from boxwright.app.outputs import metadata

        with open(options.metadata_file, "w", encoding="utf-8") as file:
            file.write(metadata(image, request.tags, delivered))
    if options.quiet:
        say(image.identity)
    elif options.progress != "json":
        print_summary(image, request.tags, time.monotonic() - started)
    else:
        display.result(image, time.monotonic() - started)
    return 0


def _executed(
    options: argparse.Namespace, build: Build, request: BuildRequest, store: Store, display: Display
) -> tuple[int, Build, Image | None]:
    """Run the build; the exit status where there is no image."""
    emit, report = reported(options.junit, build, display)
    try:
        return 0, build, execute(build, request, store, emit)
    except Failed as failed:
        failure = failed
    finally:
        display.close()
        report()
    from boxwright.cli.failure import explain_failure
    from boxwright.cli.interactivebuild import can_debug

    walks = can_debug(options)
    status = explain_failure(failure, build, store, debug=options.debug, tail=display.tail, walks=walks)
    if not walks:
        return status, build, None
    return (status, *_walked(options, build, request, store, failure.position)[1:])


def _walked(
    options: argparse.Namespace, build: Build, request: BuildRequest, store: Store, failed: int | None = None
) -> tuple[int, Build, Image | None]:
    from boxwright.cli.interactivebuild import walk_recipe

    return (1, *walk_recipe(build, request, store, options, failed))


def request_of(options: argparse.Namespace) -> BuildRequest:
    """What the command line asks for."""
    if options.file == options.directory == "-":
        hint = "give the definition inside the tar, or the context as a directory"
        raise UsageError("usage.stdin", "standard input can't be both context and definition", hint=hint)
    given = conditions.given(options)
    return BuildRequest(
        directory=options.directory,
        file=None if options.file == "-" else options.file,
        text=sys.stdin.read() if options.file == "-" else None,
        stdin=sys.stdin.buffer if options.directory == "-" else None,
        tags=tuple(image_name(tag) for tag in options.tag),
        build_args=build_args(options.build_arg, os.environ),
        labels=tuple(pair(item, "--label") for item in options.label),
        target=options.target,
        platform=options.platform,
        network=options.network,
        contexts=named(options.build_context),
        mirror=options.mirror,
        no_cache=options.no_cache,
        pull=options.pull,
        jobs=options.jobs,
        keep_times=options.timestamps == "keep",
        keep_going=options.keep_going,
        validate=tuple(options.validate),
        marked=not options.no_validate,
        layers=options.layers == "instructions",
        mounts=given.mounts,
        conditions=given.conditions,
        allowed=conditions.allowed(options),
        locked=options.locked,
        offline=options.offline,
        remote_jobs=options.remote_jobs,
        engine=options.engine,
        endpoints=tuple(options.endpoint),
        no_cache_stages=frozenset(name.lower() for text in options.no_cache_filter for name in text.split(",")),
    )


def print_plan(build: Build) -> None:
    """What would be done."""
    for node, decision in zip(build.graph.nodes, build.plan.decisions, strict=True):
        shown = "CACHED" if decision.action in (Action.REUSE, Action.UNUSED) else decision.action.value.upper()
        key = short(decision.key) if decision.key else "-" * 12
        meaning = f" = {node.meaning}" if node.meaning else ""
        say(f"{shown:<7} {key}  [{node.stage}] {node.title}{meaning}  ({decision.reason})")


def reported(file: str | None, build: Build, display: Display) -> tuple[Emit, Callable[[], None]]:
    """Where events go, and what writes the report at the end, if one is wanted."""
    if file is None:
        return display.emit, lambda: None
    from boxwright.cli.junit import Report

    report = Report(build, display)
    return report.emit, lambda: report.write(file)


def _upload(options: argparse.Namespace, image: Image, request: BuildRequest, store: Store) -> None:
    from boxwright.app.sharing import sharing
    from boxwright.cli.packagebuild import discovered, is_shown
    from boxwright.cli.uploading import upload_container

    directory = request.directory if os.path.isdir(request.directory) else os.getcwd()
    wanted, environment = discovered(options, store, push=options.push)
    with sharing(wanted, directory, store, environment, builds=False) as shared:
        upload_container(shared, image, request.tags, store, b"", shown=is_shown(options))


def check_delivery(options: argparse.Namespace) -> None:
    """Raise for what could not be delivered, before anything is built."""
    if options.output or options.load or options.layers:
        from boxwright.app.outputs import check_outputs

        check_outputs(options.output, options.load, layers=options.layers)
    if options.to_registry:
        from boxwright.app.registrypush import check_names

        check_names([image_name(tag) for tag in options.tag])


def _deliver(options: argparse.Namespace, build: Build, image: Image, store: Store) -> tuple[Delivered, ...]:
    if not options.output and not options.load and not options.to_registry:
        return ()
    from boxwright.app.outputs import deliver, layers_for

    history = layered(build) if options.layers == "instructions" else ()
    name = image_name(options.tag[0]) if options.tag else ""
    layers = layers_for(image, store, options.layers, history)
    delivered = deliver(image, store, name, options.output, options.load, layers=layers)
    if not options.to_registry:
        return delivered
    from boxwright.cli.registrypush import push_built

    return (*delivered, *push_built(image, store, options, layers if history else ()))


def keep_limit(build: Build, root: str) -> None:
    """Collect what was not used for longest, where the store grew over its limit.

    `root` is the store's: a user who became root of a namespace would be taken for the system's.
    """
    from boxwright.app.upkeep import CollectRequest, collect, is_over_limit

    environment = {**os.environ, "BOXWRIGHT_HOME": root}
    steps = (node.step for node in build.graph.nodes)
    caches = any(mount.kind == "cache" for step in steps if isinstance(step, Run) for mount in step.mounts)
    with open_store(environment) as store:
        crowded = is_over_limit(store, environment, caches=caches)
    if crowded:
        collect(CollectRequest(), environment)


def _note_warnings(request: BuildRequest) -> None:
    """Say that `check` finds something; not where nothing was built, which must cost nothing."""
    from boxwright.app.check import check

    count = len(check(request.directory, request.file, request.text).findings)
    if count:
        note(f"{count} warning{'s' if count > 1 else ''}: 'boxwright check' shows {'them' if count > 1 else 'it'}")


def print_summary(image: Image, tags: tuple[str, ...], seconds: float) -> None:
    """The image's names, identity and size."""
    names = ", ".join(tags) or "(no name)"
    say(f"{names}  {image.identity}  {human_size(image.size)}  {seconds:.2f} s")
