"""What a person does with a stack that runs: looks at it, follows it, is asked before it goes."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.conftest import until
from tests.integration.terminal import terminal_of
from tests.integration.test_stacks import Project, a_project

pytestmark = pytest.mark.integration


@pytest.fixture
def project(boxwright: Program, tmp_path: Path, busybox_base: Path) -> Iterator[Project]:
    yield from a_project(boxwright, tmp_path / "stack", busybox_base, "native")


def test_a_stack_is_looked_at_followed_and_removed(project: Project) -> None:
    project.write(replicas=1)
    file = project.directory / "autopilot.yaml"  # without a port of the host two replicas need no load balancer
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "ports:" not in line))
    planned = json.loads(project("deploy", "--plan", "--json").out)
    assert {(it["action"], it["kind"], it["name"]) for it in planned} == {
        ("create", "network", "default"),
        ("create", "volume", "data"),
        ("create", "instance", "web-1"),
        ("create", "instance", "api-1"),
    }
    assert project.status() == {}
    assert not (project.program.home / "stacks" / project.name).exists(), "a plan changes nothing"
    made = json.loads(project("deploy", "--json").out)
    assert (made["stack"], made["release"]) == (project.name, 1)

    with project.program.start("logs", "-f", cwd=project.directory) as following:
        assert following.stdout is not None
        seen = iter(following.stdout)
        assert {next(seen), next(seen)} == {"web-1 | web one\n", "api-1 | api one\n"}
        project.page("web two")
        project("deploy")
        assert next(seen) == "web-1 | web two\n"
        project("restart", "/web")
        assert next(seen) == "web-1 | web two\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130

    with terminal_of(project.program, "status", "--watch", cwd=project.directory) as table:
        table.await_text(r"NAME +STATE +HEALTH +IMAGE +ADDRESS +PORTS +SINCE")
        table.await_text(r"web-1 +running +well")
        project("scale", "web=2")
        table.await_text(r"web-2 +running +well")
        table.type("\x03")
        assert table.end() == 130

    with terminal_of(project.program, "exec", "-it", "/web-1", "sh", cwd=project.directory) as shell:
        shell.line("test -t 0 && echo a terminal of $COLOUR")
        shell.await_text("a terminal of red")
        shell.line("exit 5")
        assert shell.end() == 5

    project("rollback")
    assert project("diff").out == f"{project.name}: as release 4\n"
    assert "nothing to do" in project("rollback", "4", "--plan").out
    assert "[deploy.no-release]" in project("rollback", "77", status=1).err
    what = [json.loads(line)["what"] for line in project("events", "--json").out.splitlines()]
    assert [it for it in what if it == "release"] == ["release"] * 4

    with terminal_of(project.program, "destroy", "--volumes", cwd=project.directory) as asked:
        asked.await_text(r"remove 2 instances and the volume data with all that is in them of \S+\? \[y/N\]")
        asked.line("n")
        assert asked.end() == 2
    assert set(project.status()) == {"web-1", "api-1"}
    with terminal_of(project.program, "destroy", cwd=project.directory) as asked:
        asked.await_text("y/N")
        asked.line("y")
        assert asked.end() == 0
    assert project.status() == {}


def states(project: Project) -> dict[str, str]:
    """What the first instance of each container does."""
    found = json.loads(project("status", project.name, "--json", status=None).out)["instances"]
    return {it["container"]: it["state"] for it in found if it["number"] == 1}


def test_a_removal_that_was_interrupted_is_not_undone_and_goes_on(project: Project) -> None:
    """While `watch` runs; a name that nobody has, or has elsewhere, is no success."""
    project.write(replicas=1)
    start = project.directory / "api/start"
    start.write_text(start.read_text().replace("trap 'exit 0' TERM", "trap 'busybox sleep 20' TERM"))
    file = project.directory / "autopilot.yaml"
    file.write_text(file.read_text().replace("  api:\n", "  api:\n    stop-grace: 5s\n"))
    project("deploy")
    file.rename(project.directory.parent / "kept.yaml")
    for words in (("destroy", "--yes"), ("status",), ("restart",)):
        name = f"{project.name}x{'/' if words[0] == 'restart' else ''}"
        refused = project(*words, name, status=1).err
        assert "[deploy.unknown-stack]" in refused
        assert f"did you mean {project.name}?" in refused
    assert "say --engine native" in project("status", project.name, "--engine", "lxc", status=1).err

    mark = project.program.home / "stacks" / project.name / "documents/document-deploying"
    with project.program.start("watch", project.name, "--interval", "0.2", cwd=project.directory) as watching:
        try:
            removing = project.program.start("destroy", project.name, "--yes", cwd=project.directory)
            until(mark.exists, 20)
            until(lambda: states(project)["web"] != "running", 5)
            removing.kill()
            removing.communicate()
            time.sleep(1)
        finally:
            watching.send_signal(signal.SIGINT)
        assert "start" not in watching.communicate()[1]
    left = json.loads(project("status", project.name, "--json", status=1).out)
    assert (left["unfinished"], left["release"]) == ("destroy", 1)
    assert all(it["state"] != "running" for it in left["instances"] if it["container"] == "web")
    assert "[deploy.unfinished]" in project("scale", "--stack", project.name, "api=2", status=1).err
    assert "kept: volume data" in project("destroy", project.name, "--yes").err
    assert "nothing of" in project("status", project.name, status=1).err
    project("destroy", project.name, "--yes", "--volumes")
    assert "[deploy.unknown-stack]" in project("destroy", project.name, "--yes", "--volumes", status=1).err


def test_other_numbers_change_nothing_else(project: Project) -> None:
    """Neither what the file says by now, nor earlier numbers; what is not there is missing."""
    file = project.directory / "autopilot.yaml"
    project.write(replicas=1)
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "ports:" not in line))
    project("deploy")
    project("scale", "web=2")
    before = project.status()
    project.page("web two")
    project.write(replicas=7, colour="blue")
    assert json.loads(project("scale", "api=2", "--json").out)["release"] == 3
    after = project.status()
    assert set(after) == {"web-1", "web-2", "api-1", "api-2"}
    assert all(after[name]["name"] == it["name"] for name, it in before.items())
    assert "COLOUR=red" in project("exec", "/web-2", "env").out
    assert json.loads(project("rollback", "--json").out)["release"] == 4
    assert set(project.status()) == {"web-1", "web-2", "api-1"}

    project("rm", "-f", after["web-2"]["name"])
    said = project("status", status=1).out
    assert re.search(r"web-2 +lost +missing", said), said
    assert project.status()["web-2"]["health"] == "missing"
    project("restart", "/web-2", status=1)
    project("scale", "web=2")
    assert re.search(r"web-2 +running +well", project("status").out)
