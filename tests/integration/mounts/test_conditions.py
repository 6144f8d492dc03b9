"""What a step may use: limits, control groups, entitlements, the network."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tests.integration.mounts.conftest import Build, both

pytestmark = pytest.mark.integration


@both
def test_conditions(builder: Build) -> None:
    recipe = "RUN grep example /etc/hosts; ulimit -n; ulimit -Hn; stat -f -c '%b' /dev/shm; grep -c . /etc/hosts\n"
    context = builder.context(recipe)
    given = [
        "--add-host",
        "example:192.0.2.7",
        "--add-host",
        "six=[2001:db8::1]",
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "1m",
    ]
    said = builder.run(context, *given)
    assert "192.0.2.7 example" in " ".join(said.split())
    for text in ("#2 100", "#2 200", "#2 256"):
        assert text in said
    assert "CACHED [stage-0] RUN" in builder.run(context, *given)
    assert "CACHED [stage-0] RUN" in builder.run(context, "--add-host", "example:192.0.2.8", *given[2:])
    assert "CACHED [stage-0] RUN" not in builder.run(context, *given[:6], "--shm-size", "2m")


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--ulimit", "nofiles=1"), "usage.ulimit"),
        (("--ulimit", "nofile=2:1"), "usage.ulimit"),
        (("--ulimit", "nofile=x"), "usage.ulimit"),
        (("--add-host", "x"), "usage.add-host"),
        (("--add-host", "x:host-gateway"), "usage.add-host"),
        (("--add-host", "a b:1.2.3.4"), "usage.add-host"),
        (("--shm-size", "-1"), "usage.size"),
        (("--allow", "everything"), "usage.allow"),
    ],
)
def test_wrong_conditions(build: Build, option: tuple[str, str], code: str) -> None:
    assert f"[{code}]" in build.says("RUN true\n", *option, status=2)


def hierarchies() -> list[Path]:
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(line[4]) for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2") and line[3] == "/"]


def test_cgroup_parent(build: Build) -> None:
    name = f"boxwright-test-{os.getpid()}"
    context = build.context("RUN sleep 1; cat /proc/self/cgroup\n")
    with build.program.start("build", context, "--network", "none", "--cgroup-parent", f"/{name}/below") as process:
        seen: set[str] = set()
        while process.poll() is None and not seen:
            seen = {str(place) for place in hierarchies() for _ in place.glob(f"{name}/below/boxwright-*")}
            threading.Event().wait(0.02)
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert seen
    assert not any((place / name).exists() for place in hierarchies())
    assert "CACHED [stage-0] RUN" in build.run(context), "it doesn't count"
    assert "[usage.cgroup-parent]" in build.says("RUN echo 1\n", "--cgroup-parent", "/a/../b", status=2)


@pytest.mark.ordinary_user
def test_cgroup_parent_of_others(ordinary_build: Build) -> None:
    said = ordinary_build.says("RUN true\n", "--cgroup-parent", "/nobody", status=3)
    assert "[machine.cgroup]" in said


def test_entitlements(build: Build) -> None:
    insecure = build.context("RUN --security=insecure mount -t tmpfs none /tmp && grep CapEff /proc/self/status\n")
    said = build.run(insecure, status=2)
    assert "[build.not-allowed]" in said
    assert "--allow security.insecure" in said
    assert "Recipe:2" in said
    assert "CapEff" in build.run(insecure, "--allow", "security.insecure")
    assert "[build.not-allowed]" not in build.run(insecure, "--dry-run")
    host = build.context("RUN --network=host echo ran\n")
    assert "[build.not-allowed]" in build.run(host, "--allow", "security.insecure", status=2)
    assert "ran" in build.run(host, "--allow", "network.host,security.insecure")
    program = build.program
    program("build", build.context("RUN echo by-the-option\n"), "--network", "host")
    program("build", build.context("RUN --network=host echo also\n"), "--network", "host")


def test_network_none_has_no_network(build: Build) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    said = build.says("RUN --network=none cat /proc/net/dev | grep -c :\n")
    listening.close()
    assert "#2 1" in said


def test_no_cache_filter(build: Build) -> None:
    recipe = (
        "RUN echo zero\n"
        f"FROM tar:{build.base} AS tools\nRUN echo tools > /t\n"
        f"FROM tar:{build.base} AS app\nRUN echo before\nCOPY --from=tools /t /t\nRUN cat /t\n"
    )
    context = build.context(recipe)
    build.run(context)
    said = build.run(context, "--no-cache-filter", "Tools,other")
    assert "DONE" in said
    assert "CACHED [tools] RUN" not in said
    assert "CACHED [app] RUN echo before" in said
    assert "CACHED [app] RUN cat" not in said
    assert "no such stage" in said
    assert "CACHED [app] RUN cat" in build.run(context)
