"""boxwright.lock: what a build of packages takes from outside, by content (docs/packages.md, "Lock")."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from boxwright.app.definitions import is_container
from boxwright.app.packages import PackageBuild, PackageRequest, make_inputs, prepare_package
from boxwright.errors import DefinitionError
from boxwright.events import Event
from boxwright.model.step import Base, BuildPackage
from boxwright.store.store import Store

NAME = "boxwright.lock"
FORMAT = 1
SECTIONS = {"url": "urls", "debian-source": "debian-sources", "debian-package": "debian-packages", "base": "bases"}


def lock_path(file: str) -> str:
    """Where the lock of a definition is."""
    return os.path.join(os.path.dirname(os.path.abspath(file)), NAME)


def read_lock(file: str) -> dict[str, str] | None:
    """The pins for a definition, None where there is no lock. Raises `lock.damaged`."""
    path = lock_path(file)
    try:
        with open(path, encoding="utf-8") as text:
            data = json.load(text)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DefinitionError("lock.damaged", f"{path} is no lock: {error}", hint="run `boxwright lock`") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DefinitionError("lock.damaged", f"{path} is no lock of this version", hint="run `boxwright lock`")
    pins: dict[str, str] = {}
    for kind, section in SECTIONS.items():
        for name, value in data.get(section, {}).items():
            content = value["content"] if kind == "base" else value
            pins[f"{kind} {name}"] = json.dumps(content) if kind == "debian-source" else content
    return pins


def write_lock(request: PackageRequest, store: Store, environment: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """Pin everything that the definition takes from outside; returns the path and what was written.

    Bases are made where they are not here, since their content is what is pinned.
    """
    build = _prepared(request._replace(locking=True, lock={}, locked=False, test=True), store, environment)
    make_inputs(build, store, [n for n, node in enumerate(build.graph.nodes) if isinstance(node.step, Base)], _silent)
    data: dict[str, object] = {"format": FORMAT, **_pins(build, store)}
    path = lock_path(request.file)
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    os.rename(part, path)
    return path, data


def _prepared(request: PackageRequest, store: Store, environment: Mapping[str, str]) -> PackageBuild:
    """The build of a package, or of all packages of a container."""
    if not is_container(request.file):
        return prepare_package(request, store, environment, _quiet)
    from boxwright.app.composition import prepare_container
    from boxwright.app.request import BuildRequest

    whole = BuildRequest(os.path.dirname(os.path.abspath(request.file)), platform=request.platform)
    planned = prepare_container(whole, request, store, environment, _quiet)
    build = planned.build
    return PackageBuild(build.graph, planned.packages, -1, build.plan, build.keys, build.refuse, planned.files)


def _pins(build: PackageBuild, store: Store) -> dict[str, dict[str, object]]:
    sections: dict[str, dict[str, object]] = {section: {} for section in (*SECTIONS.values(), "git", "packages")}
    for pin, value in build.files.used.items():
        kind, _, name = pin.partition(" ")
        if kind != "base":
            sections[SECTIONS[kind]][name] = json.loads(value) if kind == "debian-source" else value
    for position, node in enumerate(build.graph.nodes):
        step = node.step
        if isinstance(step, Base) and step.source == "toolchain":
            row = store.index.one(
                "SELECT packages FROM bases WHERE name=?", (f"toolchain:{step.name} {step.platform}",)
            )
            packages = json.loads(row[0]) if row else []
            sections["bases"][step.name] = {"content": build.keys.of(position).state, "packages": packages}
        elif isinstance(step, BuildPackage):
            sections["packages"][node.stage] = build.keys.definition(position)
            for source in step.sources:
                if source.files[0][1].startswith("git:"):
                    sections["git"][source.origins[0].removeprefix("git:")] = source.files[0][1].removeprefix("git:")
    return sections


def _quiet(data: bytes) -> None:
    """What is fetched is not shown."""


def _silent(event: Event) -> None:
    """Nobody watches."""
