"""`build -i`, and `build --debug` after a failure: a prompt over a recipe or a manifest, and the image at its end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from boxwright.app.build import Build, prepare
from boxwright.app.definitions import find_definition, is_container, is_package
from boxwright.app.execution import execute
from boxwright.app.manifest.building import (
    BuiltImage,
    ManifestBuild,
    ManifestRequest,
    execute_manifest,
    prepare_manifest,
)
from boxwright.app.request import BuildRequest
from boxwright.app.walking import Subject, Walker, plain_of
from boxwright.cli.console import note
from boxwright.cli.interactive import Prompt
from boxwright.errors import UsageError
from boxwright.model.graph import Graph
from boxwright.model.image import Image
from boxwright.ports import Emit
from boxwright.solver import walking
from boxwright.store.store import Store

Bring = Callable[[Build, Emit], Build]


def check_interactive(options: argparse.Namespace) -> None:
    """Raise for what can't be walked, before anything is done: UsageError `interactive.*`."""
    if options.engine != "native":
        hint = "leave --engine out: the steps are the same"
        raise UsageError("interactive.engine", f"a build on {options.engine} can't be walked", hint=hint)
    for name in ("watch", "dry_run", "junit", "quiet", "pull", "remote_jobs"):
        if getattr(options, name):
            raise UsageError("interactive.option", f"--{name.replace('_', '-')} can't be had together with -i")
    if options.progress == "json":
        raise UsageError("interactive.option", "--progress json can't be had together with -i")
    if options.file == "-" or not os.path.isdir(options.directory):
        hint = "give a directory that holds the definition"
        raise UsageError("interactive.context", "only what lies in a directory can be walked", hint=hint)
    definition = find_definition(options.directory, options.file)
    if is_package(definition) or is_container(definition):
        hint = "`boxwright shell PKG --before PHASE` opens a shell in a package's build"
        raise UsageError("interactive.definition", "recipes and manifests can be walked", hint=hint)


def can_debug(options: argparse.Namespace) -> bool:
    """Whether a failure opens the prompt."""
    plain = options.engine == "native" and not (options.quiet or options.watch) and options.progress != "json"
    return options.debug and plain and sys.stdin.isatty() and options.file != "-" and os.path.isdir(options.directory)


# Recipes -------------------------------------------------------------------------------------------------------------


def walk_recipe(
    build: Build, request: BuildRequest, store: Store, options: argparse.Namespace, failed: int | None = None
) -> tuple[Build, Image | None]:
    """Walk a recipe, from the step that failed where there is one. The image is that of the file, or none."""
    request = request._replace(no_cache=False, no_cache_stages=frozenset())
    if options.no_cache:
        build = prepare(request, store, os.environ)
    walker = Walker(_recipe(build, request, store), request, store)
    _session(walker, store, options, failed)
    now = walker.planned()[1]
    if not _is_whole(walker, now):
        return now, None
    build = _unchanged(walker)
    return build, execute(build, request, store, lambda _: None)


def _recipe(build: Build, request: BuildRequest, store: Store) -> Subject:
    def reread(name: str, value: str, file: str) -> Subject:
        given = {**request.build_args, name: value} if name else request.build_args
        asked = request._replace(build_args=given, file=file or request.file)
        return _recipe(prepare(asked, store, os.environ), asked._replace(file=request.file), store)

    return Subject(build, plain_of(build, request.network), is_manifest=False, reread=reread)


# Manifests -----------------------------------------------------------------------------------------------------------


def walk_manifest(
    planned: ManifestBuild,
    asked: ManifestRequest,
    request: BuildRequest,
    store: Store,
    options: argparse.Namespace,
    bring: Bring,
    failed: int | None = None,
) -> tuple[ManifestBuild, tuple[BuiltImage, ...]]:
    """Walk a manifest of one entry. The image is that of the file, or there is none."""
    request = request._replace(no_cache=False)
    maker = _Manifests(request, store, bring)
    subject = maker.read(asked) if options.no_cache else maker.subject(planned, asked)
    walker = Walker(subject, request, store)
    _session(walker, store, options, failed)
    now = walker.planned()[1]
    planned = maker.last
    if not _is_whole(walker, now):
        return planned._replace(build=now), ()
    planned = planned._replace(build=_unchanged(walker))
    images, failure = execute_manifest(planned, request, store, lambda _: None)
    if failure is not None:
        raise failure.error
    return planned, images


class _Manifests:
    """Reads manifests for one walk; `last` is the one that is walked."""

    def __init__(self, request: BuildRequest, store: Store, bring: Bring) -> None:
        self._request = request
        self._store = store
        self._bring = bring
        self.last: ManifestBuild

    def read(self, asked: ManifestRequest) -> Subject:
        """A manifest as it is now."""
        return self.subject(prepare_manifest(self._request, asked, self._store, os.environ, _write_error), asked)

    def subject(self, planned: ManifestBuild, asked: ManifestRequest) -> Subject:
        """What is walked. Raises UsageError `interactive.matrix`."""
        entries = planned.manifest.entries
        if len(entries) > 1:
            names = ", ".join(it.name for it in entries)
            hint = "choose one with --matrix NAME=VALUE"
            raise UsageError("interactive.matrix", f"one entry of a matrix can be walked, not {names}", hint=hint)
        plain = entries[0].plain
        if plain is None:
            raise TypeError(asked.file)

        def reread(name: str, value: str, file: str) -> Subject:
            from boxwright.cli.manifestbuild import variable

            given = dict([variable(f"{name}={value}")]) if name else {}
            wanted = asked._replace(variables={**asked.variables, **given}, file=file or asked.file)
            if not file:
                return self.read(wanted)
            before = self.last
            try:
                return self.read(wanted)
            finally:
                self.last = before

        self.last = planned
        return Subject(planned.build, plain, is_manifest=True, reread=reread, bring=self._bring)


def _write_error(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


# Both ----------------------------------------------------------------------------------------------------------------


def _session(walker: Walker, store: Store, options: argparse.Namespace, failed: int | None) -> None:
    if failed is not None:
        walker.to_failed(failed)
    Prompt(walker, store, again=options.no_cache).loop()


def _is_whole(walker: Walker, build: Build) -> bool:
    """Whether the file's image can be had; else it is said what there is instead."""
    complete = walker.is_complete(build)
    if complete and not walking.is_changed(walker.walk):
        return True
    if complete:
        image = walker.keep_unnamed()
        note(f"what was walked is {image.identity}: it has no name, since the file says something else")
        note(f"hint: `boxwright tag {image.identity.removeprefix('sha256:')[:12]} NAME`, or save the changes and build")
    else:
        left = [it for it in walker.steps() if it.mark.value in ("", "failed")]
        note(f"no image: {len(left)} step{'' if len(left) == 1 else 's'} not done")
    return False


def _unchanged(walker: Walker) -> Build:
    other = walker.subject.build.other
    if other is None:
        raise TypeError(walker.subject.build.definition)
    graph: Graph = walker.subject.build.graph
    return other(graph)
