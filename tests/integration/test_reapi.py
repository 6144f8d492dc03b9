"""Packages on Remote Execution API servers: the same bytes, whatever the server and the way to it do."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.casd import Casd, buildbox, connects, free_port
from tests.conftest import ENGINES, Program, remove_tree
from tests.grpcproxy import Call, Fault, FaultProxy

import grpc  # isort: skip - tests.grpcproxy says first how it behaves when programs are started

pytestmark = pytest.mark.integration

TOOLS = "cat chmod cp dirname env find head id ln mkdir rm sed sleep sort tar touch"
HOST = "cat /proc/sys/kernel/hostname"  # boxwright's sandbox and buildbox's have different ones
HERE, THERE = "boxwright", "buildbox"
LIBRARY = "mkdir -p $DESTDIR/usr/lib && echo library > $DESTDIR/usr/lib/words && ln -s words $DESTDIR/usr/lib/link"
COPY = "cp -P /usr/lib/link /usr/lib/words $DESTDIR/usr/bin/"
USER = f"{HOST}; mkdir -p $DESTDIR/usr/bin && {COPY} && id -u > $DESTDIR/usr/bin/id"

T = TypeVar("T")
Tree = Callable[..., Path]
Farm = Callable[..., None]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return buildbox(tmp_path_factory.mktemp("buildbox"))


@pytest.fixture(scope="session")
def small_toolchain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell, GNU tar and what an action needs beside: a few megabytes of this machine's own programs."""
    place = tmp_path_factory.mktemp("small-toolchain")
    root = place / "root"
    for name in ("bin", "etc", "usr/bin", "usr/lib"):
        (root / name).mkdir(parents=True)
    copied: set[str] = set()
    for name in ("sh", *TOOLS.split()):
        program = os.path.realpath(shutil.which(name) or name)
        shutil.copy(program, root / "bin" / name)
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        copied |= {word for word in libraries.split() if word.startswith("/")}
    for library in copied:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    archive = place / "small.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", archive, "."], check=True)
    return archive


@pytest.fixture
def tree(tmp_path: Path, small_toolchain: Path) -> Tree:
    """Make a package tree: `tree(name=SCRIPT)`, with more lines of its definition `tree(name=(SCRIPT, LINES))`."""

    def make(**packages: str | tuple[str, str]) -> Path:
        for name, given in packages.items():
            script, more = (given, "") if isinstance(given, str) else given
            directory = tmp_path / "tree/packages/demo" / name
            directory.mkdir(parents=True, exist_ok=True)
            lines = [f"name: {name}", "version: 1.0", f"toolchain: tar:{small_toolchain}", "strip: false", more]
            lines += ["phases:", "  install: |", *(f"    {line}" for line in script.splitlines())]
            (directory / "pkg.yaml").write_text("\n".join(lines) + "\n")
        (tmp_path / "tree/.git").touch()
        return tmp_path / "tree/packages/demo"

    return make


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """Write the configuration: `farm(URL)` for a server that does everything, with further keys."""

    def write(url: str, **keys: object) -> None:
        given: dict[str, object] = {"type": "reapi", "name": "farm", "cas": url, "execution": url, "time-limit": 5}
        given |= {name.replace("_", "-"): value for name, value in keys.items()}
        lines = [
            f"    {name}: {'[' + ', '.join(v) + ']' if isinstance(v, list) else v}" for name, v in given.items() if v
        ]
        text = "repositories:\n  -\n" + "\n".join(lines) + "\n"
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree/.boxwright-config.yaml").write_text(text)

    return write


@pytest.fixture(scope="session")
def casd(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Casd]:
    """A server of the whole session; it keeps failures, as it does unless it is told not to."""
    server = Casd(programs, tmp_path_factory.mktemp("casd") / "hub")
    yield server
    server.close()


@pytest.fixture
def proxy(casd: Casd) -> Iterator[FaultProxy]:
    found = FaultProxy(casd.url)
    yield found
    found.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """The program with an empty store of that name."""
    yield lambda name: Program(tmp_path / "stores" / name)
    remove_tree(tmp_path / "stores")


@pytest.fixture
def nothing_here(tmp_path: Path) -> Callable[[Program], Program]:
    """The program where no action can be run: whatever it has then, it has from elsewhere."""
    directory = tmp_path / "no-bwrap"
    directory.mkdir()
    (directory / "bwrap").write_text("#!/bin/sh\necho this machine builds nothing >&2\nexit 99\n")
    (directory / "bwrap").chmod(0o755)
    return lambda program: program.with_environment(PATH=f"{directory}:{os.environ['PATH']}")


def salted(script: str) -> str:
    """A script that no server has seen."""
    return f": {os.urandom(8).hex()}\n{script}"


def wait_for(condition: Callable[[], T], seconds: float = 30) -> T:
    """What it returns once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)
    return found


def built(program: Program) -> dict[str, tuple[str, str, str]]:
    """By package: content key, definition key and the digest of its archive."""
    with sqlite3.connect(program.home / "index.db") as db:
        rows = db.execute("SELECT name, key, definition, archive FROM packages").fetchall()
    return {name: (key, definition, archive) for name, key, definition, archive in rows}


def build(program: Program, package: Path, *options: str, status: int = 0) -> str:
    """Build a package; returns everything that was said."""
    result = program("build", package, "--progress", "plain", *options, status=status)
    print(result)  # noqa: T201 - shown where the test fails
    return result.out + result.err


# The same, wherever it is built ---------------------------------------------------------------------------------------


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


# Failures are nobody's result -----------------------------------------------------------------------------------------


def test_failures_are_never_results(tree: Tree, farm: Farm, proxy: FaultProxy, store: Any, nothing_here: Any) -> None:
    packages = tree(bad=salted("cat /proc/sys/kernel/random/uuid; exit 3"))
    farm(proxy.url)
    program = nothing_here(store("there"))
    first, second = (build(program, packages / "bad", status=1) for _ in range(2))
    assert "exit status 3" in first
    uuids = [{line for line in text.splitlines() if line.count("-") == 4} for text in (first, second)]
    assert uuids[0]
    assert uuids[0].isdisjoint(uuids[1])  # the server keeps failures; they are not believed
    farm(proxy.url, execution="")
    build(store("here"), packages / "bad", status=1)
    assert proxy.calls["UpdateActionResult"] == 0


# Machines that die ----------------------------------------------------------------------------------------------------


def test_a_node_that_dies_is_replaced_by_another(
    tree: Tree, farm: Farm, programs: Path, tmp_path: Path, store: Any, nothing_here: Any
) -> None:
    hub = Casd(programs, tmp_path / "hub")
    node = Casd(programs, tmp_path / "node", hub=hub.url)
    try:
        many = {f"p{number}": salted(f"sleep 1.5; {HOST}") for number in range(4)}
        packages = tree(**many, whole=("true", f"build-depends: [{', '.join(f'demo/{name}' for name in many)}]"))
        farm(hub.url, execution=[hub.url, node.url])
        program = nothing_here(store("there"))
        with program.start(
            "build", str(packages / "whole"), "--progress", "plain", stdin=subprocess.DEVNULL
        ) as process:
            wait_for(node.children)
            node.kill()
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert len(built(program)) == 5
    finally:
        node.close()
        hub.close()


def test_a_killed_action_is_run_again(tree: Tree, farm: Farm, casd: Casd, store: Any, nothing_here: Any) -> None:
    packages = tree(slow=salted(f"sleep 1; {HOST}"))
    farm(casd.url)
    program = nothing_here(store("there"))
    with program.start("build", str(packages / "slow"), "--progress", "plain", stdin=subprocess.DEVNULL) as process:
        for child in wait_for(casd.children):
            os.kill(child, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    casd.unmount()  # what showed the tree was killed too


def test_the_only_server_dies_in_the_middle(tree: Tree, farm: Farm, programs: Path, tmp_path: Path, store: Any) -> None:
    server = Casd(programs, tmp_path / "only")
    try:
        packages = tree(slow=salted(f"sleep 1; {HOST}"))
        farm(server.url)
        program = store("here")
        with program.start("build", str(packages / "slow"), "--progress", "plain", stdin=subprocess.DEVNULL) as process:
            wait_for(server.children)
            server.kill()
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        assert f" {HERE}\n" in err
        assert "the build goes on without it" in err
    finally:
        server.close()


def test_an_interrupted_build_takes_its_action_back(tree: Tree, farm: Farm, casd: Casd, store: Any) -> None:
    packages = tree(slow=salted("sleep 60"))
    farm(casd.url)
    with store("here").start("build", str(packages / "slow"), stdin=subprocess.DEVNULL) as process:
        wait_for(casd.children)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    wait_for(lambda: not casd.children(), 10)


# Servers that misbehave: the build goes on here, and says so ----------------------------------------------------------


def failing(code: grpc.StatusCode, first: int = 1 << 30) -> Fault:
    """The first calls are answered with an error."""
    return lambda call: call.fail(code) if call.number <= first else None


def stalling(call: Call) -> Iterator[bytes]:
    return call.stall()


def answered(change: Callable[[bytes], bytes]) -> Fault:
    """Each message of an answer is changed."""

    def fault(call: Call) -> Iterator[bytes]:
        return (change(message) for message in call.handed_on())

    return fault


UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL
GOES_LOCAL: dict[str, dict[str, Fault]] = {
    "stalls-at-once": {"*": stalling},
    "stalls-in-the-cache": {"GetActionResult": stalling},
    "stalls-at-uploads": {"BatchUpdateBlobs": stalling},
    "stalls-while-it-executes": {"Execute": stalling, "GetCapabilities": lambda c: c.stall() if c.number > 2 else None},
    "answers-500": {"*": failing(INTERNAL)},
    "refuses": {"*": failing(grpc.StatusCode.UNAUTHENTICATED)},
    "executes-nothing": {"Execute": failing(grpc.StatusCode.UNIMPLEMENTED)},
    "is-full": {"BatchUpdateBlobs": failing(grpc.StatusCode.RESOURCE_EXHAUSTED)},
    "loses-what-it-is-given": {"FindMissingBlobs": lambda _: iter([b""])},
    "gives-other-bytes": {"Read": answered(lambda message: message[:-1] + bytes([message[-1] ^ 1]))},
    "gives-no-end": {"Read": lambda call: (message for _ in range(50) for message in call.handed_on())},
    "truncates": {"Read": lambda _: iter([])},
    "answers-nonsense": {"Execute": lambda _: iter([b"\xff\xff\xff"])},
    "ends-without-a-result": {"Execute": lambda _: iter([])},
}


@pytest.mark.parametrize("name", GOES_LOCAL)
def test_a_server_that_fails_costs_no_build(name: str, tree: Tree, farm: Farm, proxy: FaultProxy, store: Any) -> None:
    proxy.faults.update(GOES_LOCAL[name])
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(proxy.url, time_limit=1)
    text = build(store("here"), packages / "lib")
    assert f" {HERE}\n" in text
    assert "the build goes on without it" in text or "built here" in text
    assert text.count("the build goes on without it") <= 2


PASSES: dict[str, dict[str, Fault]] = {
    "hiccups": {"*": failing(UNAVAILABLE, 2), "GetCapabilities": failing(UNAVAILABLE, 2)},
    "hiccups-at-uploads": {"BatchUpdateBlobs": failing(grpc.StatusCode.RESOURCE_EXHAUSTED, 1)},
    "hiccups-at-downloads": {"Read": failing(UNAVAILABLE, 1)},
    "hiccups-at-execution": {"Execute": failing(INTERNAL, 1)},
    "lost-something-once": {"FindMissingBlobs": lambda call: iter([b""]) if call.number == 1 else None},
    "is-slow-once": {"GetActionResult": lambda call: call.stall() if call.number == 1 else None},
}


@pytest.mark.parametrize("name", PASSES)
def test_what_passes_is_tried_again(
    name: str, tree: Tree, farm: Farm, proxy: FaultProxy, store: Any, nothing_here: Any
) -> None:
    proxy.faults.update(PASSES[name])
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(proxy.url, time_limit=2)
    text = build(nothing_here(store("there")), packages / "lib")
    assert "the build goes on" not in text
    assert "built here" not in text
    assert f" {THERE}\n" in text


def test_a_server_that_is_not_there(tree: Tree, farm: Farm, store: Any) -> None:
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm("grpc://127.0.0.1:1")
    result = store("here")("build", packages / "lib", "--progress", "plain")
    assert "can't be reached" in result.err
    assert result.err.count("the build goes on without it") == 1
    assert result.seconds < 20


# TLS and tokens -------------------------------------------------------------------------------------------------------

HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tls
    bind 127.0.0.1:{port} ssl crt {place}/server.pem ca-file {place}/ca.pem verify required alpn h2
    http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer opensesame" }}
    default_backend casd
backend casd
    server casd {backend} proto h2
"""


@pytest.fixture
def tls(tmp_path: Path, casd: Casd) -> Iterator[tuple[str, Path]]:
    """The server behind haproxy: TLS with certificates on both sides, and a token."""
    place = tmp_path / "tls"
    place.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *key[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    (place / "server.pem").write_text((place / "server.crt").read_text() + (place / "server.key").read_text())
    port = free_port()
    configuration = HAPROXY.format(port=port, place=place, backend=casd.url.removeprefix("grpc://"))
    (place / "haproxy.cfg").write_text(configuration)
    process = subprocess.Popen(["haproxy", "-db", "-f", place / "haproxy.cfg"], stderr=subprocess.DEVNULL)
    wait_for(lambda: connects(port))
    (place / "token").write_text("opensesame\n")
    yield f"grpcs://127.0.0.1:{port}", place
    process.terminate()
    process.wait()


OWN = "{ca: %s/ca.pem, certificate: %s/client.crt, key: %s/client.key}"


def test_tls_and_a_token(tree: Tree, farm: Farm, tls: tuple[str, Path], store: Any, nothing_here: Any) -> None:
    url, place = tls
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(url, tls=OWN % (place, place, place), token_file=place / "token")
    assert f" {THERE}\n" in build(nothing_here(store("there")), packages / "lib")


REFUSED = {
    "another-token": (OWN, "wrong"),
    "no-token": (OWN, ""),
    "another-authority": ("{ca: %s/other.pem, certificate: %s/client.crt, key: %s/client.key}", "opensesame"),
    "no-certificate": ("{ca: %s/ca.pem}%.0s%.0s", "opensesame"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_other_side_refuses_is_built_here(
    name: str, tree: Tree, farm: Farm, tls: tuple[str, Path], store: Any
) -> None:
    url, place = tls
    own, token = REFUSED[name]
    (place / "token").write_text(token)
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(url, tls=own % (place, place, place), token_file=place / "token" if token else "")
    text = build(store("here"), packages / "lib")
    assert f" {HERE}\n" in text
    assert "the build goes on without it" in text
    assert "opensesame" not in text


# What is written wrong ------------------------------------------------------------------------------------------------

MISTAKES = {
    "address": ("cas: casd:50951", "config.address", 2),
    "path": ("cas: grpc://h/path", "config.address", 2),
    "port": ("cas: grpc://h:99999", "config.address", 2),
    "user": ("cas: grpc://me@h", "config.address", 2),
    "execution": ("cas: grpc://h\n    execution: [grpc://h, ftp://h]", "config.address", 2),
    "unknown key": ("cas: grpc://h\n    exection: grpc://h", "config.unknown-key", 4),
    "no cas": ("execution: grpc://h", "config.wrong", 2),
    "jobs": ("cas: grpc://h\n    jobs: -1", "config.wrong", 4),
    "time limit": ("cas: grpc://h\n    time-limit: 0", "config.wrong", 4),
    "token in clear": ("cas: grpc://h.example.org\n    token-variable: TOKEN", "config.token-in-clear", 2),
    "no token": ("cas: grpcs://h\n    token-variable: MISSING", "config.token", 2),
    "no token file": ("cas: grpcs://h\n    token-file: nowhere", "config.token", 2),
    "two tokens": ("cas: grpcs://h\n    token-file: a\n    token-variable: TOKEN", "config.wrong", 2),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_with_their_place(name: str, tree: Tree, tmp_path: Path, store: Any) -> None:
    text, code, line = MISTAKES[name]
    packages = tree(lib=LIBRARY)
    (tmp_path / "tree/.boxwright-config.yaml").write_text(f"repositories:\n  - type: reapi\n    {text}\n")
    program = store("here").with_environment(TOKEN="secret-word")
    result = program("build", packages / "lib", status=2)
    assert f"[{code}]" in result.err
    assert f".boxwright-config.yaml:{line}" in result.err
    assert "secret-word" not in result.err
