"""Packages on Remote Execution API servers: the same bytes, wherever they are built."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.casd import Casd, connects, free_port
from tests.conftest import ENGINES
from tests.grpcproxy import Call, FaultProxy, failing

import grpc  # isort: skip - tests.grpcproxy says first how it behaves when programs are started
from tests.integration.reapi.conftest import (
    HERE,
    HOST,
    LIBRARY,
    THERE,
    USER,
    Farm,
    Tree,
    build,
    built,
    salted,
    wait_for,
)

pytestmark = pytest.mark.integration


def test_a_package_is_the_same_bytes_there_and_here(
    tree: Tree, farm: Farm, casd: Casd, store: Any, nothing_here: Any
) -> None:
    packages = tree(lib=salted(LIBRARY), user=(salted(USER), "depends: [demo/lib]"))
    here = store("here")
    assert f" {HERE}\n" in build(here, packages / "user")
    farm(casd.url)
    there = nothing_here(store("there"))
    text = build(there, packages / "user")
    assert f" {THERE}\n" in text
    assert text.count("    Building on 'farm'...") == 2
    assert built(there) == built(here)
    assert len(built(here)) == 2


def test_declared_owners_of_a_dependency_are_seen_nowhere(tree: Tree, farm: Farm, casd: Casd, store: Any) -> None:
    special = 'owners: {usr/lib/secret: {user: "33", group: "33", mode: "0600"}}'
    packages = tree(
        lib=(salted("mkdir -p $DESTDIR/usr/lib && echo secret > $DESTDIR/usr/lib/secret"), special),
        user=("mkdir -p $DESTDIR/usr && cat /usr/lib/secret > $DESTDIR/usr/read", "build-depends: [demo/lib]"),
    )
    here, there = store("here"), store("there")
    build(here, packages / "user")
    farm(casd.url)
    build(there, packages / "user")
    assert built(there) == built(here)


def test_only_the_work_directory_can_be_written(
    tree: Tree, farm: Farm, casd: Casd, store: Any, nothing_here: Any
) -> None:
    packages = tree(bad=salted("touch /usr/lib/mark"))
    farm(casd.url)
    text = build(nothing_here(store("there")), packages / "bad", status=1)
    assert "Read-only file system" in text or "Permission denied" in text


def test_a_second_machine_compiles_nothing(
    tree: Tree, farm: Farm, casd: Casd, proxy: FaultProxy, store: Any, nothing_here: Any
) -> None:
    packages = tree(lib=salted(LIBRARY), user=(salted(USER), "depends: [demo/lib]"))
    farm(casd.url)
    first, second = store("first"), nothing_here(store("second"))
    build(first, packages / "user")
    farm(proxy.url)
    text = build(second, packages / "user")
    assert text.count("Found HASH in 'farm'") == 1
    assert built(second).items() <= built(first).items()
    build(second, packages / "lib")
    assert built(second) == built(first)
    assert proxy.calls["Execute"] == proxy.calls["BatchUpdateBlobs"] == 0
    again = build(second, packages / "user")
    assert "Found HASH in the local store" in again


def test_the_same_action_of_another_definition_is_found(
    tree: Tree, farm: Farm, casd: Casd, proxy: FaultProxy, store: Any, nothing_here: Any
) -> None:
    script, using = salted(LIBRARY), salted(USER)
    packages = tree(lib=script, user=(using, "depends: [demo/lib]"))
    farm(casd.url)
    build(store("first"), packages / "user")
    packages = tree(lib=(script, "summary: other"), user=(using, "depends: [demo/lib]\nsummary: other"))
    farm(proxy.url)
    second = nothing_here(store("second"))
    text = build(second, packages / "user")
    assert f" {THERE}\n" in text  # what the build wrote is kept with it
    assert text.count("    Found on 'farm'...") == 2
    assert proxy.calls["Execute"] == 0


def test_what_is_known_by_its_identity_needs_neither_toolchain_nor_sources(
    tree: Tree,
    farm: Farm,
    casd: Casd,
    proxy: FaultProxy,
    store: Any,
    small_toolchain: Path,
    host_toolchain: Path,
    tmp_path: Path,
) -> None:
    """A lock says what the toolchain is, the definition what the sources are; both stay where they are."""
    text = os.urandom(100)
    (tmp_path / "page").mkdir()
    (tmp_path / "page/source").write_bytes(text)
    port = free_port()
    web = subprocess.Popen(["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", tmp_path / "page"])
    try:
        wait_for(lambda: connects(port))
        url = f"http://127.0.0.1:{port}/source"
        source = f"sources: [{{url: '{url}', sha256: {hashlib.sha256(text).hexdigest()}, unpack: false}}]"
        names = [f"p{number}" for number in range(8)]
        given = {name: (salted(f"mkdir -p $DESTDIR/usr; cp source $DESTDIR/usr/{name}"), source) for name in names}
        needs = f"depends: [{', '.join(f'demo/{it}' for it in names)}]"
        program = salted("mkdir -p $DESTDIR/usr/bin; cp /bin/busybox $DESTDIR/usr/bin/")
        packages = tree(**given, whole=(program, f"{needs}\ntest: [[busybox, ls, /usr/p0]]"))
        for path in packages.glob("*/pkg.yaml"):
            path.write_text(path.read_text().replace(str(small_toolchain), str(host_toolchain)))
        farm(casd.url)
        first = store("first")
        first("lock", packages / "whole")
        build(first, packages / "whole")
    finally:
        web.terminate()
        web.wait(10)
    farm(proxy.url)
    second = store("second")
    said = build(second, packages / "whole")
    assert said.count("Found HASH in 'farm'") == 9
    assert built(second) == built(first)
    assert proxy.calls["FindMissingBlobs"] <= 3
    assert proxy.calls["Execute"] == 0
    assert "Preparing toolchain" not in said
    assert "Running its tests" not in said


@pytest.mark.parametrize("what", ["no-json", "another", "no-archive", "gone"])
def test_a_record_that_is_none_is_not_believed(tree: Tree, farm: Farm, casd: Casd, store: Any, what: str) -> None:
    from boxwright.repositories.reapi import messages
    from boxwright.repositories.reapi.cas import SERVICE
    from boxwright.repositories.reapi.packages import ACTION_CACHE, ARCHIVE, METADATA, named
    from boxwright.repositories.reapi.trees import blob_of, digest_message

    packages = tree(lib=salted(LIBRARY), other=salted("true"))
    farm(casd.url)
    first = store("first")
    build(first, packages / "lib")
    build(first, packages / "other")
    known = {name.partition("-")[0]: it for name, it in built(first).items()}
    with grpc.insecure_channel(casd.url.removeprefix("grpc://")) as channel:

        def call(method: str, request: Any, answer: Any) -> Any:
            made: Any = channel.unary_unary(method, lambda it: it.SerializeToString(), answer.FromString)
            return made(request, timeout=10)

        def result(kind: str, identity: str) -> Any:
            asked = messages.GetActionResultRequest(action_digest=digest_message(named(kind, identity).action))
            return call(f"{ACTION_CACHE}/GetActionResult", asked, messages.ActionResult)

        lib, other = (result("definition", known[f"demo/{name}"][1]) for name in ("lib", "other"))
        if what == "no-json":
            data = b"no JSON"
            put = messages.BatchUpdateBlobsRequest()
            put.requests.add(digest=digest_message(blob_of(data)), data=data)
            call(f"{SERVICE}/BatchUpdateBlobs", put, messages.BatchUpdateBlobsResponse)
            for file in lib.output_files:
                if file.path == METADATA:
                    file.digest.CopyFrom(digest_message(blob_of(data)))
                    file.contents = b""
        elif what == "another":
            lib = other
        elif what == "no-archive":
            del lib.output_files[:]
        else:
            for file in lib.output_files:
                if file.path == ARCHIVE:
                    file.digest.hash = "0" * 64
        for kind, identity in (("definition", known["demo/lib"][1]), ("key", known["demo/lib"][0])):
            asked = messages.UpdateActionResultRequest(
                action_digest=digest_message(named(kind, identity).action), action_result=lib
            )
            call(f"{ACTION_CACHE}/UpdateActionResult", asked, messages.ActionResult)
    second = store("second")
    text = build(second, packages / "lib")
    assert "Found HASH in 'farm'" not in text
    assert built(second)["demo/lib-1.0"] == built(first)["demo/lib-1.0"]


def test_a_cache_without_execution(tree: Tree, farm: Farm, casd: Casd, store: Any, nothing_here: Any) -> None:
    script, using = salted(LIBRARY), salted(USER)
    packages = tree(lib=script, user=(using, "depends: [demo/lib]"))
    farm(casd.url, execution="", action_cache=casd.url)
    first, second = store("first"), nothing_here(store("second"))
    assert f" {HERE}\n" in build(first, packages / "user")
    for name in ("lib", "user"):
        assert "Found HASH in 'farm'" in build(second, packages / name)
    assert built(second) == built(first)
    farm(casd.url)
    packages = tree(lib=(script, "summary: other"), user=(using, "depends: [demo/lib]\nsummary: other"))
    executing = nothing_here(store("third"))
    assert f" {HERE}\n" in build(executing, packages / "user")  # one action, whoever ran it


def test_nothing_is_stored_without_push(tree: Tree, farm: Farm, proxy: FaultProxy, store: Any) -> None:
    packages = tree(lib=salted(LIBRARY))
    farm(proxy.url, execution="", push="false")
    build(store("here"), packages / "lib")
    assert proxy.calls["GetActionResult"] == 1
    assert proxy.calls["UpdateActionResult"] == proxy.calls["BatchUpdateBlobs"] == 0


def test_who_may_not_write_may_read(tree: Tree, farm: Farm, casd: Casd, proxy: FaultProxy, store: Any) -> None:
    packages = tree(lib=salted(LIBRARY), own=(salted("true"), "depends: [demo/lib]"))
    farm(casd.url, execution="")
    build(store("writer"), packages / "lib")
    farm(proxy.url, execution="")
    proxy.faults["UpdateActionResult"] = failing(grpc.StatusCode.PERMISSION_DENIED)
    reader = store("reader")
    assert "Found HASH in 'farm'" in build(reader, packages / "lib")
    text = build(reader, packages / "own")
    assert text.count("nothing more is stored there") == 1


def test_no_cache_asks_no_cache(tree: Tree, farm: Farm, proxy: FaultProxy, store: Any) -> None:
    packages = tree(lib=salted(LIBRARY))
    farm(proxy.url)
    build(store("here"), packages / "lib")
    build(store("here"), packages / "lib", "--no-cache")
    assert (proxy.calls["GetActionResult"], proxy.calls["Execute"]) == (1, 2)


def test_offline_asks_no_server(tree: Tree, farm: Farm, proxy: FaultProxy, store: Any) -> None:
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(proxy.url)
    assert f" {HERE}\n" in build(store("here"), packages / "lib", "--offline")
    assert not proxy.calls


def test_the_packages_of_a_container_too(
    tree: Tree, farm: Farm, casd: Casd, store: Any, nothing_here: Any, tmp_path: Path
) -> None:
    tree(lib=salted(LIBRARY), user=(salted(USER), "depends: [demo/lib]"))
    container = tmp_path / "tree/container"
    container.mkdir()
    lines = ["- vars: {name: box, version: 1.0}", "- package: {type: embedded, path: ../packages/demo/user}"]
    (container / "container.yaml").write_text("\n".join(lines) + "\n")
    here, there = store("here"), nothing_here(store("there"))
    here("build", container, "-q", "-t", "box")
    farm(casd.url)
    built_there = there("build", container, "-t", "box")
    assert built_there.err.count("    Building on 'farm'...") == 2
    identities = [program("images", "-q").out for program in (here, there)]
    assert identities[0] == identities[1] != ""


def test_local_and_remote_slots_side_by_side(tree: Tree, farm: Farm, casd: Casd, store: Any) -> None:
    many = {f"p{number}": salted(f"{HOST}; sleep 1") for number in range(6)}
    packages = tree(**many, whole=("true", f"build-depends: [{', '.join(f'demo/{name}' for name in many)}]"))
    farm(casd.url)
    text = build(store("both"), packages / "whole", "--jobs", "1", "--remote-jobs", "2")
    assert f" {HERE}\n" in text
    assert f" {THERE}\n" in text
    packages = tree(**{name: salted(HOST) for name in many})
    text = build(store("none"), packages / "whole", "--remote-jobs", "0")
    assert f" {THERE}\n" not in text


IN_FLIGHT = 300


@pytest.mark.long
def test_hundreds_of_actions_in_flight(
    tree: Tree, farm: Farm, casd: Casd, proxy: FaultProxy, store: Any, nothing_here: Any
) -> None:
    """More than a connection takes at once: all are under way before the first one is answered.

    casd has their results already, so that it answers all of them soon; the one who asks isn't told before.
    """
    many = {f"p{number}": salted("true") for number in range(IN_FLIGHT)}
    packages = tree(**many, whole=("true", f"build-depends: [{', '.join(f'demo/{name}' for name in many)}]"))
    farm(casd.url, execution="")
    build(store("first"), packages / "whole")
    gate, lock, waiting = threading.Event(), threading.Lock(), [0]

    def hold(_: Call) -> Iterator[bytes] | None:
        with lock:
            waiting[0] += 1
            if waiting[0] >= IN_FLIGHT:
                gate.set()
        gate.wait(60)
        return None

    def unknown(call: Call) -> Iterator[bytes] | None:
        call.context.abort(grpc.StatusCode.NOT_FOUND, "not yet")
        return None

    proxy.faults |= {"Execute": hold, "GetActionResult": unknown}
    farm(proxy.url, time_limit=30)
    second = nothing_here(store("second"))
    build(second, packages / "whole", "--remote-jobs", str(IN_FLIGHT + 5))
    assert gate.is_set()
    assert built(second) == built(store("first"))


BUILDGRID = """
description: tests
server: [!channel {{address: "127.0.0.1:{port}", insecure-mode: true}}]
authorization: {{method: none}}
storages: [!lru-storage &storage {{size: 500M}}]
caches: [!lru-action-cache &cache {{storage: *storage, max-cached-refs: 1000, allow-updates: true}}]
instances:
  - name: main
    storages: [*storage]
    caches: [*cache]
    services: [!action-cache {{cache: *cache}}, !cas {{storage: *storage}}, !bytestream {{storage: *storage}}]
thread-pool-size: 20
"""


@pytest.fixture
def buildgrid(tmp_path: Path) -> Iterator[str]:
    """BuildGrid's storage and action cache; it brings no worker."""
    port = free_port()
    (tmp_path / "buildgrid.yml").write_text(BUILDGRID.format(port=port))
    with (tmp_path / "buildgrid.log").open("wb") as log:
        words = [f"{ENGINES}/buildgrid/bin/bgd", "server", "start", f"{tmp_path}/buildgrid.yml"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: connects(port), 60)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.engine("buildgrid")
def test_buildgrid_as_a_cache(tree: Tree, farm: Farm, buildgrid: str, store: Any, nothing_here: Any) -> None:
    large = "head -c 5000000 /dev/urandom > $DESTDIR/usr/lib/large"
    packages = tree(lib=salted(f"{LIBRARY}; {large}"), user=(salted(USER), "depends: [demo/lib]"))
    farm(buildgrid, execution="", instance="main")
    first, second = store("first"), nothing_here(store("second"))
    build(first, packages / "user")
    for name in ("lib", "user"):
        build(second, packages / name)
    assert built(second) == built(first)
