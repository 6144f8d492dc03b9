"""Secrets of stacks: programs have them, no engine shows them."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.test_stacks import RECIPE, START

pytestmark = pytest.mark.integration

STACK = """\
name: {name}
containers:
  app:
    build: ./app
    secrets: [token, key]
secrets: {{token: {{}}, key: {{env: APP_KEY}}}}
cluster: {{engine: {engine}}}
"""
KEY = "the key that nobody may see"


class Place:
    """A stack whose program has two secrets."""

    def __init__(self, program: Program, directory: Path, base: Path, engine: str) -> None:
        self.program = program.with_environment(APP_KEY=KEY)
        self.directory = directory
        self.engine = engine
        self.name = f"s{os.getpid()}{time.monotonic_ns() % 10000}"
        (directory / "app").mkdir(parents=True)
        (directory / "app/Recipe").write_text(RECIPE.format(base=base))
        (directory / "app/page").write_text("page\n")
        (directory / "app/start").write_text(START)
        (directory / "app/start").chmod(0o755)
        (directory / "autopilot.yaml").write_text(STACK.format(name=self.name, engine=engine))

    def __call__(self, *words: str, status: int | None = 0) -> str:
        result = self.program(*words, cwd=self.directory, status=status)
        return result.out + result.err

    def secret(self, name: str) -> str:
        return self("exec", "/app", "cat", f"/run/secrets/{name}")

    def instance(self) -> str:
        return str(json.loads(self("status", "--json", "."))["instances"][0]["name"])

    def shown(self) -> str:
        """All that the engine shows of the stack to those who may look at it, and what a guest may read of itself."""
        name, project = self.instance(), f"boxwright-{self.name}"
        commands = {
            "native": [],
            "lxc": [],
            "podman": [["podman", "inspect", name], ["podman", "volume", "inspect", f"{self.name}.boxwright"]],
            "docker": [["docker", "inspect", name], ["docker", "volume", "inspect", f"{self.name}.boxwright"]],
            "lxd": [
                ["lxc", "project", "show", project],
                ["lxc", "config", "show", name, "--project", project, "--expanded"],
                ["lxc", "config", "show"],
                ["lxc", "query", f"/1.0/instances/{name}?project={project}&recursion=1"],
            ],
        }[self.engine]
        said = [subprocess.run(it, check=True, capture_output=True, text=True).stdout for it in commands]
        environments = self("exec", "/app", "busybox", "cat", "/proc/1/environ", "/proc/self/environ", status=None)
        assert "PATH=" in environments
        said.append(environments)
        said += [self("events", "--json"), self("deploy", "--plan", "--json"), self("status", "--json"), self("logs")]
        if self.engine == "native":
            said += [self("inspect", name), self("ps", "--json")]
            records = (self.program.home / "containers" / name).glob("*.json")
            said += [it.read_text() for it in records]
        if self.engine == "lxc":
            said += [it.read_text() for it in self.program.home.glob(f"**/{name}/*") if it.is_file()]
        return "\n".join(said)


def with_decoded(text: str) -> str:
    """A text with what is in it as base64, also twice over."""
    found = [text]
    for _ in range(2):
        for word in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", found[-1]):
            try:
                found.append(base64.b64decode(word, validate=True).decode(errors="replace"))
            except ValueError:
                continue
    return "\n".join(found)


OTHERS = [pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "docker", "lxc")]


@pytest.fixture(
    params=[
        "native",
        pytest.param("lxd", marks=[pytest.mark.engine("lxd"), pytest.mark.long]),
        *OTHERS,
    ]
)
def place(boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(boxwright, tmp_path / "stack", busybox_base, str(request.param))
    yield made
    made("destroy", "--yes", "--volumes", status=None)


def test_no_engine_shows_a_secret_and_a_new_one_reaches_the_program(place: Place) -> None:
    said = place("deploy")
    token = place.secret("token")
    assert len(token) == 40
    assert place.secret("key") == KEY
    shown = with_decoded(said + place.shown())
    assert place.name in shown
    assert token not in shown
    assert KEY not in shown
    assert base64.b64encode(KEY.encode()).decode() not in shown

    rotated = place("deploy", "--rotate", "token")
    assert "files: /run/secrets/token" in rotated
    newer = place.secret("token")
    assert len(newer) == 40
    assert newer != token
    assert place.secret("key") == KEY
    shown = with_decoded(rotated + place.shown())
    assert token not in shown
    assert newer not in shown
    place("rollback")
    assert place.secret("token") == token


@pytest.mark.engine("lxd")
@pytest.mark.long
def test_secrets_that_were_sealed_with_another_key_are_an_error(
    boxwright: Program, tmp_path: Path, busybox_base: Path
) -> None:
    place = Place(boxwright, tmp_path / "stack", busybox_base, "lxd")
    try:
        place("deploy")
        project = f"boxwright-{place.name}"
        key = "user.boxwright.secrets"
        sealed = subprocess.run(["lxc", "project", "get", project, key], check=True, capture_output=True, text=True)
        damaged = sealed.stdout.strip()[:-8] + "AAAAAAA="
        subprocess.run(["lxc", "project", "set", project, f"{key}={damaged}"], check=True)
        assert "[deploy.sealed]" in place("deploy", status=1)
        subprocess.run(["lxc", "project", "set", project, f"{key}={sealed.stdout.strip()}"], check=True)
        assert "nothing to do" in place("deploy")
    finally:
        place("destroy", "--yes", "--volumes")
