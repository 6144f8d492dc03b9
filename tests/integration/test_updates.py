"""How instances of a stack are replaced: one after the other, several at a time, after each other, canaries first."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program, Result
from tests.integration.test_stacks import RECIPE

pytestmark = pytest.mark.integration

START = """\
#!/bin/sh
trap 'echo stop $(hostname) >>/shared/log; exit 0' TERM
echo start $(hostname) >>/shared/log
httpd -f -p 80 -h /srv &
wait
"""
GOES_BAD = START.replace("wait\n", "busybox sleep 1\nbusybox rm /srv/index.html\nwait\n")
STACK = """\
name: {name}
containers:
  web:
    build: ./web
    replicas: {replicas}
    update: {update}
    volumes: ["./shared:/shared"]
    healthcheck: {{http: /index.html, port: 80, interval: 200ms, retries: 1, start-period: 10s}}
cluster: {{engine: {engine}}}
"""


class Place:
    """A stack of one container, whose instances write down when they start and stop."""

    def __init__(self, program: Program, directory: Path, base: Path, engine: str) -> None:
        self.program = program
        self.directory = directory
        self.values = {
            "name": f"u{os.getpid()}{time.monotonic_ns() % 10000}",
            "engine": engine,
            "replicas": 3,
            "update": "{}",
        }
        (directory / "web").mkdir(parents=True)
        (directory / "shared").mkdir()
        (directory / "shared").chmod(0o777)
        (directory / "web/Recipe").write_text(RECIPE.format(base=base))
        self.version("one")

    def version(self, page: str, start: str = START) -> None:
        (self.directory / "web/page").write_text(f"{page}\n")
        (self.directory / "web/start").write_text(start)
        (self.directory / "web/start").chmod(0o755)

    def __call__(self, *words: str, status: int | None = 0) -> Result:
        return self.program(*words, cwd=self.directory, status=status)

    def deploy(self, status: int = 0, **changes: object) -> Result:
        self.values.update(changes)
        (self.directory / "autopilot.yaml").write_text(STACK.format(**self.values))
        log = self.directory / "shared/log"
        log.write_text("")
        log.chmod(0o666)
        return self("deploy", status=status)

    def log(self) -> list[str]:
        return (self.directory / "shared/log").read_text().splitlines()

    def generations(self) -> dict[str, int]:
        found: list[dict[str, Any]] = json.loads(self("status", "--json").out)["instances"]
        assert {it["health"] for it in found} == {"well"}
        assert len(found) == self.values["replicas"]
        return {f"{it['container']}-{it['number']}": it["generation"] for it in found}

    def pages(self) -> set[str]:
        names = self.generations()
        return {self("exec", f"/{it}", "cat", "/srv/index.html").out.strip() for it in names}

    def events(self) -> list[tuple[str, str]]:
        return [(it["what"], it["name"]) for it in map(json.loads, self("events", "--json").out.splitlines())]


ENGINES = ["native", *(pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "lxd"))]


@pytest.fixture(params=ENGINES)
def place(boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(boxwright, tmp_path / "stack", busybox_base, str(request.param))
    yield made
    made("destroy", "--yes", "--volumes", status=None)


def test_a_canary_that_goes_bad_is_taken_back_and_the_others_are_never_touched(place: Place) -> None:
    place.deploy(update="{canary: 1, wait: 3s}")
    before = len(place.events())
    place.version("two", GOES_BAD)
    failed = place.deploy(status=1)
    assert "[deploy.unhealthy]" in failed.err
    assert "what ran before runs again" in failed.err
    assert place.generations() == {"web-1": 3, "web-2": 1, "web-3": 1}
    assert place.pages() == {"one"}
    assert {it.split()[1] for it in place.log()} == {"web-1"}
    events = place.events()[before:]
    assert not [it for it in events if it[1] in ("web-2", "web-3")]
    assert ("rollback", place.values["name"]) in events
    assert "release 2" not in place("events").out

    place.version("three")
    assert place.deploy(update="{canary: 1, wait: 500ms}").out.startswith(f"{place.values['name']}: release 2")
    assert place.generations() == {"web-1": 4, "web-2": 2, "web-3": 2}
    assert place.pages() == {"three"}
    log = place.log()
    assert log.index("stop web-1") < log.index("start web-2") < log.index("stop web-2") < log.index("start web-3")


def test_so_many_at_a_time_or_none_beside_the_old_one(place: Place) -> None:
    place.deploy(replicas=4, update="{parallel: 2}")
    place.version("two")
    place.deploy()
    log = place.log()
    assert sorted(log[-4:]) != sorted(log[:4])
    first = {f"{what} {name}" for what in ("start", "stop") for name in ("web-1", "web-2")}
    assert set(log[:4]) == first, "two at a time, each beside its old one"
    assert all(log.index(f"start {name}") < log.index(f"stop {name}") for name in ("web-1", "web-2", "web-3", "web-4"))
    place.version("three")
    place.deploy(replicas=2, update="{strategy: recreate}")
    log = [it for it in place.log() if it.split()[1] in ("web-1", "web-2")]
    assert log == ["stop web-1", "start web-1", "stop web-2", "start web-2"]
    assert place.pages() == {"three"}


@pytest.mark.long
def test_killed_at_several_points_of_an_update_the_next_run_goes_on(place: Place) -> None:
    place.deploy()
    points = ("replace web-1: ", "done: removed", "done: replace web-1", "done: replace web-2")
    for number, point in enumerate(points):
        place.version(f"version {number}")
        with place.program.start("deploy", cwd=place.directory) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if point in line:
                    break
            process.send_signal(signal.SIGKILL)
        said = place("deploy")
        assert "release" in said.out
        assert place.pages() == {f"version {number}"}
        assert place("deploy").out.endswith("nothing to do\n")
        assert place("diff").out.endswith(f"as release {number + 2}\n")


@pytest.mark.long
def test_instances_share_their_image_and_leave_it_as_it_is(place: Place) -> None:
    place.deploy(replicas=2)
    place("exec", "/web-1", "sh", "-c", "echo changed >/srv/index.html; echo more >/srv/more")
    place.deploy(replicas=3)
    shown = [place("exec", f"/web-{number}", "cat", "/srv/index.html").out for number in (1, 2, 3)]
    assert shown == ["changed\n", "one\n", "one\n"]
    assert place("exec", "/web-3", "ls", "/srv/more", status=None).status != 0
