"""The data files about recipes are right: programs that others wrote confirm them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES = Path(__file__).parents[1] / "cases" / "recipe"
HEAD = 'FROM scratch\nENV v=value e="" p=a/b/c.tar.gz s="one  two"\n'
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

pytestmark = pytest.mark.integration


def cases(file: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load((CASES / file).read_text(encoding="utf-8"))
    return loaded


class Docker:
    """BuildKit, as docker.io 20.10 has it."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.images: set[str] = set()

    def config(self, text: str, args: dict[str, str] | None = None) -> dict[str, Any] | None:
        """The configuration of the image, None where the build fails."""
        context = self._work / os.urandom(8).hex()
        context.mkdir()
        (context / "Dockerfile").write_text(text, encoding="utf-8", newline="")
        given = [word for name, value in (args or {}).items() for word in ("--build-arg", f"{name}={value}")]
        command = ["/usr/bin/docker", "build", "-q", "--iidfile", str(context / "id"), *given, str(context)]
        done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, check=False)
        if done.returncode:
            return None
        image = (context / "id").read_text()
        self.images.add(image)
        shown = subprocess.run(["/usr/bin/docker", "inspect", image], capture_output=True, check=True)
        found: dict[str, Any] = json.loads(shown.stdout)[0]["Config"]
        return found


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    judge = Docker(tmp_path)
    yield judge
    if judge.images:
        subprocess.run(["/usr/bin/docker", "rmi", *judge.images], capture_output=True, check=False)


def as_docker_shows(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    config = {name: value for name, value in config.items() if value}
    config["Env"] = [item for item in config.get("Env", ()) if item != PATH]
    for name in ("ArgsEscaped", "Image", "Hostname"):
        config.pop(name, None)
    if config.get("WorkingDir") == "/":
        del config["WorkingDir"]
    return {name: value for name, value in config.items() if value}


@pytest.mark.engine("docker")
@pytest.mark.parametrize("escape", ["\\", "`"])
def test_docker_expands_as_the_cases_say(docker: Docker, escape: str) -> None:
    asked = [
        case for case in cases("expansion.yaml") if case.get("judge") == "docker" and case.get("escape", "\\") == escape
    ]
    labels = "".join(f"LABEL k{number} {case['text']}\n" for number, case in enumerate(asked))
    config = docker.config(f"# escape={escape}\n{HEAD}{labels}")
    assert config is not None
    assert asked
    assert [config["Labels"][f"k{number}"] for number in range(len(asked))] == [case["word"] for case in asked]


def test_bash_expands_as_the_cases_say() -> None:
    asked = [case for case in cases("expansion.yaml") if case.get("judge") == "bash"]
    script = "v=value e= p=a/b/c.tar.gz s='one  two'\n"
    script += "".join(f"r={case['text']}; printf '%s\\n' \"$r\"\n" for case in asked)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={})
    assert asked
    assert done.stdout.splitlines() == [case["word"] for case in asked]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.engine("docker")
def test_docker_builds_what_the_cases_say(docker: Docker) -> None:
    asked = [case for case in cases("whole.yaml") if "alone" not in case]
    with ThreadPoolExecutor(3) as workers:
        found = list(workers.map(lambda case: docker.config(case["text"], case.get("args")), asked))
    shown = {case["name"]: as_docker_shows(config) for case, config in zip(asked, found, strict=True)}
    assert shown == {case["name"]: case.get("config") for case in asked}
