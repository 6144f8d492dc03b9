"""What an image says of its packages: taken from the definitions that were asked for, whenever its tree was made.

A package that is built again to the same bytes leaves the composed tree as it is, and a licence, a patch's reason or a
HASH may be another one by then. So these stand beside the tree, for each image its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boxwright.model.digest import Digest
from boxwright.model.graph import Graph
from boxwright.model.image import Image
from boxwright.model.step import Base, BuildPackage, Compose
from boxwright.solver.keys import Keys
from boxwright.steps.package import described
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
        return about_package(record.record) if record is not None else {}
    own = {"version": step.version, "platform": step.platform, "definition": definition}
    return about_package({**described(step), **own})


def about_package(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a package whose record says this (docs/packages.md, "Metadata")."""
    sources = record["sources"]
    patches = [source for source in sources if source["kind"] == "patch"]
    origins = [_origin(source) for source in sources if source["kind"] not in {"patch", "install"}]
    return {
        "package": record["package"],
        "version": record["version"],
        "architecture": record["platform"].partition("/")[2],
        "identity": record["definition"],
        "licence": record["license"],
        "source": ", ".join(origins),
        "patches": [[patch["files"][0][0], dict(patch["options"]).get("reason", "")] for patch in patches],
        "depends": list(record["runtime"]),
    }


def _origin(source: Mapping[str, Any]) -> str:
    """Where a source is from: its first address, else its name."""
    return str(source["origins"][0] if source["origins"] else source["files"][0][0])
