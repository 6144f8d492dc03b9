"""A build of a container that is composed of packages (container.yaml)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.bases import BaseFetcher, base_resolver
from boxwright.app.build import Build, finder
from boxwright.app.configuration import configuration_for
from boxwright.app.containerfiles import DirectoryFiles
from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import read_definition
from boxwright.app.descriptions import describe_composed
from boxwright.app.execution import execute_plan, history_name, start_sandbox, step_records
from boxwright.app.kinds import step_kinds
from boxwright.app.moment import build_moment
from boxwright.app.names import image_name
from boxwright.app.packagefiles import DefinitionFiles
from boxwright.app.packages import (
    PackageRequest,
    definition_files,
    note_definitions,
    package_kinds,
    package_workers,
    resolved_cache,
    resolver,
)
from boxwright.app.platforms import checked_platform
from boxwright.app.privileges import ensure_privileges
from boxwright.app.request import BuildRequest
from boxwright.app.sandboxes import LateSandbox
from boxwright.frontends.container.graph import (
    ContainerGraph,
    ContainerOptions,
    build_container,
    image_tag,
    package_tag,
)
from boxwright.frontends.package.graph import PackageGraph
from boxwright.model.giturl import without_password
from boxwright.model.image import Image, ImageConfig
from boxwright.model.plan import Action
from boxwright.model.step import Base, BuildPackage, Compose
from boxwright.ports import Emit
from boxwright.solver.keys import Keys, Kinds
from boxwright.solver.planner import make_plan
from boxwright.store.history import History
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.binaries import Binaries
    from boxwright.app.locks import Lock


class ContainerBuild(NamedTuple):
    """A container's build that is planned and can be run."""

    container: ContainerGraph
    build: Build
    packages: PackageGraph
    files: DefinitionFiles
    bases: Mapping[str, Base]


def prepare_container(
    request: BuildRequest,
    packages_request: PackageRequest,
    store: Store,
    environment: Mapping[str, str],
    output: Callable[[bytes], None],
) -> ContainerBuild:
    """Read the definition, make the graph and plan it."""
    packages = Packages(store)
    platform = checked_platform(request.platform)
    file = os.path.abspath(packages_request.file)
    directory = os.path.dirname(file)
    configuration = configuration_for(directory, environment)
    outside = configuration.outside(request.mirror, environment, offline=request.offline)
    definitions = definition_files(packages_request, packages, environment, outside, output)
    bases = base_resolver(store, request, configuration.bases)
    cache = resolved_cache(definitions, packages, platform, packages_request)
    definitions.locking = packages_request.locking
    builder = PackageGraph(resolver(definitions, platform, None if packages_request.locking else cache), platform)
    options = ContainerOptions(platform, request.build_args, request.labels, test=packages_request.test)
    container = build_container(
        read_definition(file),
        packages_request.file,
        DirectoryFiles(directory, definitions),
        builder,
        bases,
        options,
    )
    if not packages_request.locking:
        cache.save()
    moment = build_moment(environment, {}, directory)
    contexts = LocalContexts(store, {"": directory}, file, moment.epoch)
    sandbox = LateSandbox(store.home.cache)
    fetcher = BaseFetcher(store, outside, request.lock, keep=request.locking)
    workers = package_workers(packages_request, store, environment)
    recipe, mounts = step_kinds(request, store, container.graph, contexts, sandbox, moment, environment, fetcher)
    kinds = {
        **recipe,
        **package_kinds(store, packages, outside, request.lock, keep=request.locking, run_action=workers.run_action),
        **compose_kinds(store),
    }
    pull = frozenset(
        position
        for position, node in enumerate(container.graph.nodes)
        if request.pull and node.stage == "container" and isinstance(node.step, Base) and node.step.pinned is None
    )
    keys = Keys(container.graph, kinds, finder(store), pull, packages.by_definition)
    refuse = pull | _again(container, request)
    plan = make_plan(container.graph, keys, refuse=refuse)
    build = Build(packages_request.file, container.graph, plan, keys, refuse, sandbox, moment, contexts, mounts)
    return ContainerBuild(container, build._replace(workers=workers), builder, definitions, bases.asked)


def _again(container: ContainerGraph, request: BuildRequest) -> frozenset[int]:
    """The nodes that ``--no-cache`` runs again."""
    if not request.no_cache:
        return frozenset()
    return frozenset(
        position
        for position, node in enumerate(container.graph.nodes)
        if not isinstance(node.step, Base | BuildPackage) or position in container.packages
    )


def compose_kinds(store: Store) -> Kinds:
    """How the nodes are run that compose packages."""
    from boxwright.app.inventory import Compositions
    from boxwright.app.owners import owners_of
    from boxwright.steps.compose import ComposeKind

    return {Compose: ComposeKind(store, Compositions(store), lambda snapshot: owners_of(store, snapshot))}


def bring_packages(
    planned: ContainerBuild, store: Store, emit: Emit, binaries: Binaries | None, lock: Lock | None
) -> ContainerBuild:
    """The build with a plan in which the packages that repositories have are here."""
    if binaries is None:
        return planned
    return planned._replace(build=bring_into(planned.build, store, emit, binaries, lock))


def bring_into(build: Build, store: Store, emit: Emit, binaries: Binaries, lock: Lock | None) -> Build:
    """The same of any build whose graph has packages."""
    from boxwright.app.binaries import Target
    from boxwright.app.packages import make_nodes, unknown_toolchains

    toolchains = unknown_toolchains(build.graph, build.plan, build.keys)
    make_nodes(build.graph, build.keys, store, toolchains, emit)
    plan = make_plan(build.graph, build.keys, refuse=build.refuse) if toolchains else build.plan
    ensure_privileges()
    start_sandbox(build)  # before a connection to a server has threads of its own
    return build._replace(plan=binaries.bring(Target(build.graph, build.keys, build.refuse, lock), plan))


def execute_container(planned: ContainerBuild, request: BuildRequest, store: Store, emit: Emit) -> Image:
    """Run the plan and record the image, under its own name where none is given."""
    build, container = planned.build, planned.container
    decided = zip(build.graph.nodes, build.plan.decisions, strict=True)
    if any(decision.action is Action.RUN and isinstance(node.step, BuildPackage) for node, decision in decided):
        from boxwright.sandbox.bubblewrap import require_bubblewrap

        require_bubblewrap()
    snapshot = execute_plan(build, request, store, emit)
    note_definitions(build.graph, build.plan, build.keys, store)
    History(store).keep(history_name(build, request), step_records(build))
    if container.one_each:
        _keep_packages(planned, store)
    image = Images(store).keep(build.graph.config, snapshot, request.tags or (default_name(container),))
    describe_composed(build.graph, build.keys, image, store)
    return image


def default_name(container: ContainerGraph) -> str:
    """The image's name where the command line gives none."""
    return image_name(image_tag(container))


def _keep_packages(planned: ContainerBuild, store: Store) -> None:
    """An image of each composed package, named ``CATEGORY/NAME:VERSION``."""
    for position in planned.container.composed:
        node = planned.build.graph.nodes[position]
        snapshot = planned.build.keys.snapshot(position)
        if snapshot is None:
            continue
        step = node.step
        if isinstance(step, BuildPackage):
            name = f"{step.category}/{step.name}".lstrip("/")
            version, architecture = step.version, step.platform.split("/")[1]
        else:
            whole = step.name if isinstance(step, Base) else node.stage
            name, _, version = f"debian/{whole}".partition("=")
            architecture = planned.build.graph.config.architecture
        Images(store).keep(ImageConfig(architecture), snapshot, (image_name(package_tag(name, version)),))


def names_for(tags: Sequence[str], container: ContainerGraph) -> str:
    """What an image is called in formats that hold a name."""
    return tags[0] if tags else default_name(container)


def specification(planned: ContainerBuild) -> bytes:
    """What the container is made of, as a tar: its definition, the lock, and the definitions of embedded packages.

    Of the addresses in definitions only what everybody may know: it leaves this machine.
    """
    import io
    import tarfile

    top = os.path.dirname(os.path.abspath(planned.build.definition))
    paths = {os.path.abspath(planned.build.definition), os.path.join(top, "boxwright.lock")}
    for position in planned.container.packages:
        directory = os.path.dirname(os.path.abspath(planned.build.graph.nodes[position].span.file))
        if directory.startswith(f"{top}/"):
            paths |= {os.path.join(here, name) for here, _, names in os.walk(directory) for name in names}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(path for path in paths if os.path.isfile(path) and not os.path.islink(path)):
            member = tarfile.TarInfo(os.path.relpath(path, top))
            with open(path, "rb") as file:
                data = file.read()
            if path.endswith((".yaml", ".yml", ".lock")):
                data = without_password(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
