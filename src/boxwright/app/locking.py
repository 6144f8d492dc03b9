"""Writing boxwright.lock: everything that a definition takes from outside is looked up, and pinned by content."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.app.basesystems import REBUILT, made_of, pool_files
from boxwright.app.build import prepare
from boxwright.app.definitions import is_container, is_manifest, is_package, lock_path
from boxwright.app.locks import FORMAT, Lock, LockedBase, lock_name, lock_text, locked_as, read_lock, write_text
from boxwright.app.outside import Outside
from boxwright.app.packages import PackageRequest, package_outside, prepare_package
from boxwright.app.platforms import checked_platform
from boxwright.app.privileges import ensure_privileges
from boxwright.app.request import BuildRequest
from boxwright.errors import DefinitionError, FetchError
from boxwright.frontends.package.graph import PackageGraph
from boxwright.model.giturl import without_password
from boxwright.model.graph import Graph
from boxwright.model.step import Base, BuildPackage, Fetch
from boxwright.ports import Emit
from boxwright.solver.keys import Keys
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Conditions, Failed, Scheduler
from boxwright.steps.base import pinned_by
from boxwright.store.packages import Packages
from boxwright.store.store import Store

Data = dict[str, dict[str, object]]
SECTIONS = {"url": "urls", "debian-source": "debian-sources", "debian-package": "debian-packages"}
FROM_OUTSIDE = ("bootstrap", "registry")


class LockRequest(NamedTuple):
    """What is to be locked: a definition's file. `output` is told what is fetched, `note` what a person should know.

    With `pull` what floats is pinned as it is now, else only what no earlier lock pins.
    """

    file: str
    platform: str
    mirror: str | None
    target: str
    output: Callable[[bytes], None]
    emit: Emit
    note: Callable[[str], None]
    pull: bool = False


class Locked(NamedTuple):
    """A lock as it is to be written."""

    path: str
    data: Mapping[str, object]

    def write(self) -> None:
        """Write it beside the definition."""
        write_text(self.path, f"{lock_text(self.data)}\n")


class LockPlan(NamedTuple):
    """What the definitions' graph takes from outside. `pins` are by kind and name; `bases` by what they are called.

    `paths` say where files of the distribution were, by SHA-256, when an earlier lock was made.
    """

    path: str
    graph: Graph
    keys: Keys
    pins: Mapping[str, str]
    bases: Mapping[str, Base]
    outside: Outside
    packages: PackageGraph | None
    paths: Mapping[str, str]
    modules: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    earlier: Lock | None = None


def make_lock(request: LockRequest, planned: LockPlan, store: Store) -> Locked:
    """Pin everything that the definition takes from outside.

    Bases are made where they are not here, since their content is what is pinned; with `pull` in any case.
    """
    systems = [
        position
        for position, node in enumerate(planned.graph.nodes)
        if isinstance(node.step, Base) and node.step.source in ("toolchain", "bootstrap")
    ]
    _make(planned, systems, request, store)
    data: Data = {}
    _add_pins(data, planned, store)
    for position in systems:
        made = _add_system(data, planned, position, store)
        _keep_packages(made, planned.outside, request, store)
    _add_others(data, planned, store)
    if planned.modules:
        data["modules"] = {name: dict(pin) for name, pin in planned.modules.items()}
    whole = {"format": FORMAT, "platform": checked_platform(request.platform), **data}
    return Locked(planned.path, whole)


def plan_lock(request: LockRequest, store: Store, environment: Mapping[str, str]) -> LockPlan:
    """Read the definitions, and look up what they take from outside.

    An earlier lock is believed: moving it is `update`'s. A version of a distribution's package is one thing for ever,
    so that stays in any case: the archive may have dropped it.
    """
    directory = os.path.dirname(os.path.abspath(request.file))
    earlier = _earlier(request)
    whole = BuildRequest(
        directory,
        file=request.file,
        platform=request.platform,
        mirror=request.mirror,
        target=request.target,
        pull=request.pull,
        locking=True,
        lock=earlier,
    )
    path = lock_path(request.file)
    paths = earlier.paths if earlier else {}
    own = PackageRequest(
        request.file, platform=request.platform, mirror=request.mirror, locking=True, lock=earlier, test=True
    )
    outside = package_outside(own, environment)
    if is_package(request.file):
        package = prepare_package(own, store, environment, request.output)
        used = package.files.used
        plan = LockPlan(path, package.graph, package.keys, used, {}, outside, package.packages, paths)
        return plan._replace(earlier=earlier)
    if is_container(request.file):
        from boxwright.app.composition import prepare_container

        container = prepare_container(whole, own, store, environment, request.output)
        used = container.files.used
        built = container.build
        plan = LockPlan(path, built.graph, built.keys, used, container.bases, outside, container.packages, paths)
        return plan._replace(earlier=earlier)
    if is_manifest(request.file):
        from boxwright.app.manifest.building import ManifestRequest, prepare_manifest

        planned = prepare_manifest(whole, ManifestRequest(request.file), store, environment, request.output)
        pins, bases, graph, modules = planned.taken
        built = planned.build
        return LockPlan(path, built.graph, built.keys, pins, bases, outside, graph, paths, modules, earlier)
    build = prepare(whole, store, environment)
    return LockPlan(path, build.graph, build.keys, {}, build.bases, outside, None, paths, earlier=earlier)


def _earlier(request: LockRequest) -> Lock | None:
    """What stays true of an earlier lock; nothing of one that can't be read.

    With `pull` those are versions of the distribution's packages, else everything but what lies on this machine: that
    is the user's own, who may have changed it.
    """
    try:
        lock = read_lock(request.file, checked_platform(request.platform))
    except DefinitionError:
        return None
    if lock is None:
        return None
    if not request.pull:
        return lock._replace(images={name: it for name, it in lock.images.items() if it.source in FROM_OUTSIDE})
    pins = {name: value for name, value in lock.pins.items() if name.startswith(("debian-source ", "debian-package "))}
    return lock._replace(pins=pins, bases={}, images={})


def _make(planned: LockPlan, positions: list[int], request: LockRequest, store: Store) -> None:
    """Make bases that are not here, or of which nobody knows any more what they were made of."""
    for position in positions:
        step = planned.graph.nodes[position].step
        assert isinstance(step, Base)  # noqa: S101 - positions are of bases
        here = planned.keys.snapshot(position)
        tar = step.name.startswith("tar:")
        known = locked_as(planned.earlier, step) is not None
        if here is not None and (tar or (not request.pull and (known or made_of(store, here.manifest.content)))):
            continue
        ensure_privileges()
        graph = planned.graph._replace(target=position, gates=(), databases=())
        plan = make_plan(graph, planned.keys, refuse=frozenset({position}))
        conditions = Conditions(os.cpu_count() or 1, 0, True, frozenset({position}))
        try:
            Scheduler(graph, plan, planned.keys, store, request.emit, conditions).run()
        except Failed as failure:
            raise failure.error from failure


def _keep_packages(made: LockedBase, outside: Outside, request: LockRequest, store: Store) -> None:
    """Fetch the files of a base's packages while they can be had: they are what it is made of next year."""
    from boxwright.app.poolfiles import provide_files

    distribution = made.name.partition(":")[0]
    if not made.packages or distribution not in REBUILT:
        return
    try:
        provide_files(Packages(store), outside, pool_files(made), distribution, made.sources, request.output)
    except FetchError as error:
        request.note(f"not all packages of {made.name.partition(' ')[0]} can be kept: {error.message}")


def _add_pins(data: Data, planned: LockPlan, store: Store) -> None:
    """URLs, commits and packages of the distribution, and the identities of packages."""
    packages = Packages(store)
    for pin, value in planned.pins.items():
        kind, _, name = pin.partition(" ")
        if kind == "debian-source":
            files = [[file, digest, *_path(packages, planned, digest)] for file, digest in json.loads(value)]
            _section(data, SECTIONS[kind])[name] = files
        elif kind in SECTIONS:
            _section(data, SECTIONS[kind])[name] = " ".join((value, *_path(packages, planned, value)))
    for position, node in enumerate(planned.graph.nodes):
        step = node.step
        if not isinstance(step, BuildPackage):
            continue
        definition = planned.keys.definition(position)
        if definition:
            _section(data, "packages")[node.stage] = definition
        for source in step.sources:
            kind, _, commit = source.files[0][1].partition(":")
            if kind == "git":
                _section(data, "git")[without_password(source.origins[0].removeprefix("git:"))] = commit


def _path(packages: Packages, planned: LockPlan, digest: str) -> tuple[str, ...]:
    found = packages.pin(f"pool {digest}") or planned.paths.get(digest.removeprefix("sha256:"))
    return (found,) if found else ()


def _section(data: Data, name: str) -> dict[str, object]:
    return data.setdefault(name, {})


def _add_system(data: Data, planned: LockPlan, position: int, store: Store) -> LockedBase:
    """A bootstrapped base: its content, its packages, its sources."""
    step = planned.graph.nodes[position].step
    snapshot = planned.keys.snapshot(position)
    assert isinstance(step, Base)  # noqa: S101 - positions are of bases
    if snapshot is None:
        raise FetchError("store.gone", f"{step.name} was removed while it was needed", hint="lock again")
    before = locked_as(planned.earlier, step)
    made = made_of(store, snapshot.manifest.content) or ((before.packages, before.sources) if before else ((), ()))
    locked = LockedBase(step.source, step.name, pinned_by(step, snapshot), *made)
    entry: dict[str, object] = {"content": locked.content}
    if locked.packages:
        entry |= {"packages": [list(item) for item in locked.packages], "sources": list(locked.sources)}
    if step.source == "toolchain":
        _section(data, "bases")[lock_name(step.name)] = entry
        return locked
    for called, asked in planned.bases.items():
        if asked == step:
            _section(data, "images")[called] = {**entry, "source": step.source, "name": step.name}
    return locked


def _add_others(data: Data, planned: LockPlan, store: Store) -> None:
    """Images of registries, what lies on this machine, and what ADD fetches."""
    steps = {node.step for node in planned.graph.nodes}
    for called, asked in planned.bases.items():
        if asked.pinned is not None and asked in steps and asked.source != "bootstrap":
            entry = {"source": asked.source, "content": asked.pinned}
            if asked.source in FROM_OUTSIDE:
                entry["name"] = asked.name
            _section(data, "images")[called] = entry
    fetches = [step for step in steps if isinstance(step, Fetch)]
    if not fetches:
        return
    from boxwright.app.remotes import Remotes, fetch_pin

    remotes = Remotes(store, planned.earlier)
    remotes.identify_all(fetches)
    for step in fetches:
        if step.kind == "http" and step.checksum:
            continue
        kind, _, name = fetch_pin(step).partition(" ")
        _section(data, "git" if kind == "git" else "urls")[name] = remotes.identify(step).removeprefix("sha256:")
