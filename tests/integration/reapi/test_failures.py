"""Machines that die and servers that misbehave: the build goes on, and what failed is nobody's result."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.casd import Casd
from tests.grpcproxy import Call, Fault, FaultProxy, failing

import grpc  # isort: skip - tests.grpcproxy says first how it behaves when programs are started
from tests.integration.binhosts import long
from tests.integration.reapi.conftest import (
    HERE,
    HOST,
    LIBRARY,
    THERE,
    Farm,
    Tree,
    build,
    built,
    salted,
    wait_for,
)

pytestmark = pytest.mark.integration


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
LOCAL_SAMPLE = ("stalls-while-it-executes", "answers-500", "is-full", "gives-other-bytes", "answers-nonsense")


@pytest.mark.parametrize("name", [it if it in LOCAL_SAMPLE else long(it) for it in GOES_LOCAL])
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


@pytest.mark.parametrize("name", [long("hiccups"), *list(PASSES)[1:4], *map(long, list(PASSES)[4:])])
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
