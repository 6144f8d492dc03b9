"""Keys of packages: every field counts, what must not doesn't, and golden values hold them still."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from boxwright.model.digest import Digest, digest_of
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig, Snapshot
from boxwright.model.keys import key_of
from boxwright.model.span import Span
from boxwright.model.step import Base, BuildPackage, PackageOwner, PackageSource, PackageUser
from boxwright.model.tree import Manifest
from boxwright.ports import StepInputs
from boxwright.solver.keys import Keys
from boxwright.steps import action
from boxwright.steps.base import BaseKind
from boxwright.steps.package import BuildPackageKind

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "packages.json").read_text("utf-8"))
ONE, TWO = digest_of(b"1"), digest_of(b"2")

SAMPLE = BuildPackage(
    name="nginx",
    version="1.22.1",
    platform="linux/amd64",
    sources=(
        PackageSource("archive", (("nginx.tar.gz", ONE),), origins=("https://example.org/nginx.tar.gz",)),
        PackageSource("patch", (("fix.patch", TWO),), strip=-1, options=(("reason", "why"),)),
        PackageSource("install", (("nginx.conf", ONE),), "etc/nginx/nginx.conf", 0, (("mode", "0644"),)),
        PackageSource("debian", (("x.dsc", ONE), ("x.tar.xz", TWO)), options=(("patched", "false"),)),
    ),
    options=(("ipv6", "on"),),
    phases=(("configure", './configure "$@"', ("--with-ipv6", "a b")), ("install", "make install", ())),
    environment=(("NAME", "nginx"),),
    dependencies=("libs/zlib-1.3",),
    runtime=("libs/zlib-1.3",),
    parts=(("dev", ("usr/include/**",)),),
    owners=(PackageOwner("var/lib/x", 105, 105, 0o700),),
    users=(PackageUser("www", 105, 105, "www"),),
    replaces=("nginx-light",),
    summary="s",
    license="BSD-2-Clause",
    author="a",
    homepage="h",
    category="www-servers",
)

CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"version": "1.22.2"},
    {"platform": "linux/arm64"},
    {"sources": SAMPLE.sources[:1]},
    {"sources": (SAMPLE.sources[1], SAMPLE.sources[0], *SAMPLE.sources[2:])},
    *(
        {"sources": (SAMPLE.sources[0]._replace(**change), *SAMPLE.sources[1:])}
        for change in (
            {"kind": "file"}, {"files": (("nginx.tar.gz", TWO),)}, {"files": (("other.tar.gz", ONE),)}, {"into": "x"},
            {"strip": 0}, {"options": (("a", "b"),)},
        )
    ),
    {"options": (("ipv6", "off"),)},
    {"phases": SAMPLE.phases[:1]},
    {"phases": (("configure", './configure "$@"', ("--with-ipv6 a", "b")), SAMPLE.phases[1])},
    {"environment": (("NAME", "x"),)},
    {"dependencies": ("libs/zlib-1.4",)},
    {"runtime": ()},
    {"parts": ()},
    {"owners": (PackageOwner("var/lib/x", 105, 105, 0o750),)},
    {"users": ()},
    {"replaces": ()},
    {"strip": False},
    {"jobs": 5},
    {"epoch": 1},
    {"summary": "t"},
    {"license": "MIT"},
    {"author": "b"},
    {"homepage": "i"},
    {"category": "web"},
]  # fmt: skip


def kind() -> BuildPackageKind:
    unused: Any = None
    return BuildPackageKind(unused, unused, unused, unused, unused, "")


def key(step: BuildPackage, *states: Digest) -> Digest:
    fields = kind().fields(step, StepInputs(states or (ONE, TWO), ()))
    assert fields is not None
    return key_of("BuildPackage", fields)


@pytest.mark.parametrize("change", CHANGES, ids="-".join)
def test_every_field_counts(change: dict[str, Any]) -> None:
    assert key(SAMPLE._replace(**change)) != key(SAMPLE)


def test_no_field_is_forgotten_in_the_test_above() -> None:
    assert {name for change in CHANGES for name in change} == set(BuildPackage._fields)


def test_toolchain_and_contents_of_dependencies_count() -> None:
    assert len({key(SAMPLE, ONE, ONE), key(SAMPLE, ONE, TWO), key(SAMPLE, TWO, ONE)}) == 3


def test_where_sources_come_from_does_not_count() -> None:
    moved = SAMPLE.sources[0]._replace(origins=("https://elsewhere.example/nginx.tar.gz",))
    assert key(SAMPLE._replace(sources=(moved, *SAMPLE.sources[1:]))) == key(SAMPLE)


def test_a_package_has_no_key_while_a_dependency_is_not_known() -> None:
    assert kind().fields(SAMPLE, StepInputs((ONE, None), ())) is None


def test_golden_key() -> None:
    assert key(SAMPLE) == GOLDEN["key"]


def test_the_action_changes_only_with_its_format() -> None:
    text = action.script(SAMPLE) + repr(action.environment(SAMPLE)) + repr(action.phase_files(SAMPLE))
    found = {"format": action.FORMAT, "action": hashlib.sha256(text.encode()).hexdigest()}
    assert found == GOLDEN["action"], "a changed action needs another FORMAT, and then other golden values"


def _graph() -> Graph:
    """toolchain; lib; program that sees lib."""
    where = Span("f", 1)
    base = Node(Base("toolchain", "t", "linux/amd64"), (), "t", "t", where)
    lib = BuildPackage("lib", "1", "linux/amd64")
    program = BuildPackage("program", "1", "linux/amd64", dependencies=("lib-1",))
    return Graph(
        (base, Node(lib, (0,), "lib", "lib", where), Node(program, (0, 1), "program", "program", where)),
        2,
        ImageConfig("amd64"),
    )


def _snapshot(key: Digest, content: bytes) -> Snapshot:
    return Snapshot(key, ("1",), Manifest(digest_of(content), digest_of(content)), 0)


def _keys(records: dict[Digest, Snapshot], definitions: dict[Digest, Snapshot]) -> Keys:
    unused: Any = None
    kinds: Any = {Base: BaseKind(unused, unused), BuildPackage: kind()}
    return Keys(_graph(), kinds, records.get, find_definition=definitions.get)


def test_the_definition_key_is_known_before_anything_but_the_toolchain_is_there() -> None:
    base_key = _keys({}, {}).of(0).key
    assert base_key is not None
    assert _keys({}, {}).definition(2) is None
    keys = _keys({base_key: _snapshot(base_key, b"tools")}, {})
    assert keys.definition(2) is not None
    assert keys.of(2).key is None


def test_the_content_key_is_the_same_when_a_dependency_is_rebuilt_to_the_same_bytes() -> None:
    base_key = _keys({}, {}).of(0).key
    assert base_key is not None
    found = []
    for content in (b"same", b"same", b"other"):
        keys = _keys({base_key: _snapshot(base_key, b"tools")}, {})
        assert keys.of(2).key is None
        keys.built(1, _snapshot(digest_of(b"lib"), content))
        found.append(keys.of(2).key)
    assert found[0] is not None
    assert found[0] == found[1] != found[2]


def test_a_package_is_found_by_its_definition_key_where_its_dependencies_are_gone() -> None:
    base_key = _keys({}, {}).of(0).key
    assert base_key is not None
    records = {base_key: _snapshot(base_key, b"tools")}
    definition = _keys(records, {}).definition(2)
    assert definition is not None
    package = _snapshot(digest_of(b"content key"), b"program")
    keys = _keys(records, {definition: package})
    assert keys.of(2).key == package.key
    assert keys.of(2).state == package.manifest.content
