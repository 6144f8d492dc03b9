"""A shell in the sandbox of a package build, before or after a phase. What is done there is thrown away."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from boxwright.app.packagefiles import FILE, package_trees
from boxwright.app.packages import (
    PackageBuild,
    PackageRequest,
    build_kind,
    make_inputs,
    package_outside,
    prepare_package,
    with_lock,
)
from boxwright.errors import UsageError
from boxwright.events import Event
from boxwright.frontends.package.schema import PHASES
from boxwright.model.step import BuildPackage
from boxwright.ports import StepInputs
from boxwright.sandbox.bubblewrap import run_build
from boxwright.steps.action import AFTER, BEFORE
from boxwright.steps.package import remove
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def find_package(given: str, environment: Mapping[str, str], store: Store) -> PackageRequest:
    """What a person calls a package: a definition's file or directory, or a package of a tree."""
    from boxwright.app.packagefiles import DefinitionFiles

    for path in (os.path.join(given, FILE), given):
        if os.path.isfile(path):
            return with_lock(path)
    files = DefinitionFiles(
        Packages(store), package_trees(os.getcwd(), environment), {}, epoch=None, locked=False, output=lambda _: None
    )
    found = files.find(given, os.path.join(os.getcwd(), FILE), None)
    return with_lock(found.path, found.version)


def stop_of(build: PackageBuild, before: str, after: str) -> tuple[str, str]:
    """Where the shell is opened. Without either it is before the first phase. Raises `usage.phase`."""
    step = build.graph.nodes[build.package].step
    phases = [name for name, _, _ in step.phases] if isinstance(step, BuildPackage) else []
    wanted = before or after or (phases[0] if phases else "install")
    if wanted not in phases:
        known = ", ".join(phases) or "none"
        if wanted not in PHASES:
            raise UsageError("usage.phase", f"there is no phase {wanted!r}", hint=f"this package's phases: {known}")
        if before or after:
            raise UsageError("usage.phase", f"this package does nothing in {wanted}", hint=f"its phases: {known}")
    return (AFTER if after else BEFORE, wanted)


def open_package_shell(
    store: Store,
    request: PackageRequest,
    environment: Mapping[str, str],
    where: tuple[str, str],
    emit: Callable[[PackageBuild], Callable[[Event], None]],
    output: Callable[[bytes], None],
) -> int:
    """Build what the package needs, run its phases up to there, and open the shell; returns its exit status.

    `where` is the phases given as ``--before`` and ``--after``.
    """
    build = prepare_package(request, store, environment, output)
    stop = stop_of(build, *where)
    node = build.graph.nodes[build.package]
    make_inputs(build, store, node.inputs, emit(build))
    inputs = StepInputs(
        tuple(build.keys.of(place).state for place in node.inputs),
        tuple(build.keys.snapshot(place) for place in node.inputs),
    )
    kind = build_kind(store, Packages(store), package_outside(request, environment), request.lock)
    step = node.step
    assert isinstance(step, BuildPackage)  # noqa: S101 - the node is a package's
    with store.draft(None) as draft:
        place = f"{draft.directory}/build"
        try:
            spec = kind.prepare(step, inputs, place, output, stop)
            terminal = (("TERM", environment.get("TERM", "dumb")),)
            return run_build(spec._replace(env=spec.env + terminal), output, lambda: False).code
        finally:
            remove(place)
