"""What an image says of its packages: taken from the definitions that were asked for, whenever its tree was made.

A package that is built again to the same bytes leaves the composed tree as it is, and a licence, a patch's reason or a
HASH may be another one by then. So these stand beside the tree, for each image its own.
"""

from __future__ import annotations

from typing import Any

from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Image
from boxwright.model.package import PackageRecord
from boxwright.model.step import Base, BuildPackage, Compose, PackageSource
from boxwright.solver.keys import Keys
from boxwright.store.packages import Packages
from boxwright.store.provenance import Provenance
from boxwright.store.store import Store


def describe_composed(graph: Graph, keys: Keys, image: Image, store: Store) -> None:
    """Remember what the definitions of a build say of the packages that its image was composed of."""
    inherit_descriptions(graph, image, store)
    provenance = Provenance(store)
    for position, node in enumerate(graph.nodes):
        snapshot = keys.snapshot(position) if isinstance(node.step, Compose) else None
        if not isinstance(node.step, Compose) or snapshot is None or snapshot.layers[0] not in image.snapshot.layers:
            continue
        packages: list[dict[str, Any]] = []
        for package, number in zip(node.step.packages, node.inputs[1:], strict=False):
            key = keys.of(number).key
            about = _about_node(graph, keys, number, store)
            packages.append({"name": package.name, "key": key, "reason": package.reason, "about": about})
        provenance.describe(image.identity, snapshot.layers[0], packages)


def inherit_descriptions(graph: Graph, image: Image, store: Store) -> None:
    """Let an image that was made from local ones say of their packages what these say now."""
    for key in {node.step.name for node in graph.nodes if isinstance(node.step, Base) and node.step.source == "image"}:
        Provenance(store).inherit(image, Digest(key))


def _about_node(graph: Graph, keys: Keys, position: int, store: Store) -> dict[str, Any]:
    step = graph.nodes[position].step
    if not isinstance(step, BuildPackage):
        return {}
    definition = keys.definition(position)
    if definition is None:  # its toolchain is neither here nor pinned
        key = keys.of(position).key
        record = Packages(store).by_key(key) if key is not None else None
        return about_record(record) if record is not None else {}
    return _about(step, definition)


def _about(step: BuildPackage, identity: str) -> dict[str, Any]:
    patches = [source for source in step.sources if source.kind == "patch"]
    origins = [_origin(source) for source in step.sources if source.kind not in {"patch", "install"}]
    return {
        "package": step.name,
        "version": step.version,
        "architecture": step.platform.partition("/")[2],
        "identity": identity,
        "licence": step.license,
        "source": ", ".join(origins),
        "patches": [[patch.files[0][0], dict(patch.options).get("reason", "")] for patch in patches],
        "depends": list(step.runtime),
    }


def about_record(package: PackageRecord) -> dict[str, Any]:
    """The same of a package as it was recorded when it was built."""
    record = package.record
    sources = tuple(
        PackageSource(item["kind"], item["files"], "", 0, tuple(map(tuple, item["options"])), tuple(item["origins"]))
        for item in record["sources"]
    )
    step = BuildPackage(
        record["package"],
        record["version"],
        record["platform"],
        sources=sources,
        license=record["license"],
        runtime=tuple(record["runtime"]),
    )
    return _about(step, record["definition"])


def _origin(source: PackageSource) -> str:
    """Where a source is from: its first address, else its name."""
    addresses = [origin for origin in source.origins if not origin.startswith("local:")]
    return addresses[0] if addresses else source.files[0][0]
