"""What an engine fixed when it made something, and is to be otherwise; programs that are run once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration

RECIPE = """FROM tar:{base}
CMD ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
"""
STACK = """\
name: {name}
containers: {{web: {{build: .}}}}
networks: {{back: {{subnet: {subnet}, internal: {internal}}}}}
cluster: {{engine: {engine}}}
"""
JOB = """\
services:
  web: {{build: ., depends_on: {{job: {{condition: service_completed_successfully}}}}}}
  job: {{build: ., command: ["sh", "-c", "{command}"], restart: "no"}}
"""
FOREIGN = ("podman", "docker", "lxc", "lxd")
_MARKED = [pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in FOREIGN]


def leads_out(program: Program, engine: str, name: str, place: Path) -> bool:
    """By the instance's own routes; on docker and LXD by their bridge, which passes packets on or doesn't."""
    if engine == "docker":
        words = ["docker", "network", "inspect", "--format", "{{.Internal}}", f"{name}_back"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "false"
    if engine != "lxd":
        routes = program("exec", f"{name}/web", "cat", "/proc/net/route", cwd=place).out
        return any(line.split()[1] == "00000000" for line in routes.splitlines()[1:])
    said = subprocess.run(["lxc", "network", "list", "--format", "json"], capture_output=True, check=True).stdout
    (own,) = [it for it in json.loads(said) if it["config"].get("user.dev.boxwright.stack") == name]
    return own["config"]["ipv4.nat"] == "true" and "ipv4.routing" not in own["config"]


@pytest.mark.parametrize("engine", ["native", *_MARKED])
def test_a_network_becomes_internal_and_leads_out_again(
    boxwright: Program, tmp_path: Path, busybox_base: Path, engine: str
) -> None:
    """A subnet that this machine itself has is refused, and what runs is left alone."""
    name = f"t{os.getpid()}i"
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))

    def write(*, internal: bool, subnet: str = "10.201.77.0/24") -> None:
        text = STACK.format(name=name, engine=engine, internal=str(internal).lower(), subnet=subnet)
        (tmp_path / "autopilot.yaml").write_text(text)

    write(internal=False)
    try:
        boxwright("deploy", cwd=tmp_path)
        assert leads_out(boxwright, engine, name, tmp_path)
        for internal in (True, False):
            write(internal=internal)
            assert "replace network back" in boxwright("deploy", cwd=tmp_path).err
            assert leads_out(boxwright, engine, name, tmp_path) != internal
            assert boxwright("deploy", "--plan", cwd=tmp_path).out == "nothing to do\n"
        write(internal=True, subnet=own_subnet())
        said = boxwright("deploy", "--plan", cwd=tmp_path, status=2).err
        assert "[deploy.subnet-taken]" in said
        assert "autopilot.yaml:3:" in said
        assert leads_out(boxwright, engine, name, tmp_path)
    finally:
        boxwright("destroy", "--yes", cwd=tmp_path)


def own_subnet() -> str:
    """The one in which this machine's way out is."""
    routes = json.loads(subprocess.run(["ip", "-j", "-4", "route"], capture_output=True, check=True).stdout)
    device = next(it["dev"] for it in routes if it["dst"] == "default")
    return next(str(it["dst"]) for it in routes if it["dev"] == device and "/" in it["dst"])


@pytest.mark.engine("lxd")
def test_a_job_on_lxd_ends_with_a_status(boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))
    program = boxwright.with_environment(COMPOSE_PROJECT_NAME=f"t{os.getpid()}j")
    file = tmp_path / "compose.yaml"
    try:
        file.write_text(JOB.format(command="echo no migration; exit 3"))
        said = program("deploy", "--engine", "lxd", cwd=tmp_path, status=1).err
        assert "has ended with status 3" in said
        assert "no migration" in said
        file.write_text(JOB.format(command="exit 0"))
        program("deploy", "--engine", "lxd", cwd=tmp_path)
        assert program("deploy", "--engine", "lxd", "--plan", cwd=tmp_path).out == "nothing to do\n"
    finally:
        program("destroy", "--yes", "--engine", "lxd", cwd=tmp_path)


@pytest.mark.long
@pytest.mark.engine("lxd")
def test_a_volume_on_lxd_grows_and_nothing_else(boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    name = f"t{os.getpid()}v"
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))

    def write(size: str) -> None:
        volumes = f"volumes: {{data: {{size: {size}, pool: default}}}}\ncluster: {{engine: lxd}}\n"
        containers = 'containers: {web: {build: ., volume: "data:/data"}}\n'
        (tmp_path / "autopilot.yaml").write_text(f"name: {name}\n{containers}{volumes}")

    def size() -> str:
        words = ["lxc", "storage", "volume", "list", "boxwright", "--project", f"boxwright-{name}", "--format", "json"]
        found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return next(str(it["config"]["size"]) for it in found if it["name"] == "data")

    write("64MiB")
    try:
        boxwright("deploy", cwd=tmp_path)
        write("128MiB")
        assert "update volume data: its size is 64MiB, not 128MiB" in boxwright("deploy", cwd=tmp_path).err
        assert size() == str(128 << 20)
        assert boxwright("deploy", "--plan", cwd=tmp_path).out == "nothing to do\n"
        write("32MiB")
        assert "[deploy.volume-fixed]" in boxwright("deploy", "--plan", cwd=tmp_path, status=2).err
        boxwright("rollback", "1", cwd=tmp_path)
        assert size() == str(128 << 20)
    finally:
        boxwright("destroy", "--yes", "--volumes", cwd=tmp_path)
