"""boxwright.lock beside a manifest: its modules by content, and what its packages take from outside."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxwright.app.bases import BaseResolver
from boxwright.app.configuration import configuration_for
from boxwright.app.manifest.building import PackagesOf, open_world, plan_graph
from boxwright.app.manifest.modules import write_pins
from boxwright.app.manifest.publishing import pin_of
from boxwright.app.packagelock import write_pinned
from boxwright.app.packages import PackageBuild, PackageRequest
from boxwright.app.platforms import checked_platform
from boxwright.app.request import BuildRequest
from boxwright.frontends.manifest.graph import ManifestOptions, build_manifest
from boxwright.store.store import Store


def lock_manifest(
    request: PackageRequest, store: Store, environment: Mapping[str, str]
) -> tuple[str, dict[str, object]]:
    """Pin everything that a manifest takes from outside; returns the path and what was written."""
    directory = os.path.dirname(os.path.abspath(request.file))
    configuration = configuration_for(directory, environment)
    platform = checked_platform(request.platform)
    whole = BuildRequest(directory, platform=request.platform, mirror=request.mirror)
    resolver = BaseResolver(store, pull=False, configured=configuration.bases)
    world = open_world(request.file, whole, store, environment, configuration, resolver)
    world.locking = True
    packages = PackagesOf(request.file, platform, whole, store, environment, lambda _: None, locking=True)
    text = world.read(request.file, None)
    manifest = build_manifest(text, request.file, world, resolver, ManifestOptions(platform), packages)
    data: dict[str, object] = {}
    if packages.made is not None:
        files, graph = packages.made
        directories = {"": directory, **world.contexts}
        build = plan_graph(whole, manifest.graph, request.file, directories, store, environment)
        pinned = PackageBuild(manifest.graph, graph, -1, build.plan, build.keys, build.refuse, files)
        _, data = write_pinned(pinned, request.file, store)
    modules = {name: pin_of(found) for name, found in world.modules.items()}
    path = write_pins(directory, modules)
    return path, {**data, "modules": modules}
