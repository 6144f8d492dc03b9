"""The two sides: this program, and a real BuildKit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.base import NAME
from tests.conformance.cases import Case, CaseError, write_tree
from tests.conformance.server import Server
from tests.conformance.trees import Observed, normal_config, read_docker_archive, read_tree

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS_OWN = "/usr/bin/docker"
TAG = "bwc/"
TIMEOUT = 300  # seconds for one build

# The Dockerfile frontend inside each docker engine (moby's vendor.mod and BuildKit's release notes).
FRONTENDS = {
    "20.10": "1.2", "23.0": "1.5", "24.0": "1.5", "25.0": "1.6", "26.0": "1.7", "26.1": "1.7", "27.0": "1.8",
    "27.1": "1.9", "27.2": "1.10", "27.3": "1.10", "27.4": "1.12", "28.0": "1.14", "28.1": "1.15", "28.2": "1.16",
    "28.3": "1.16", "28.4": "1.18", "28.5": "1.19",
}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A build that failed, with what it said."""

    said: str
    code: str = ""


Outcome = Observed | Refused


@dataclass(frozen=True)
class Place:
    """A case made ready below `directory`: its context, its Dockerfile and the words of its options."""

    directory: Path
    file: Path
    context: Path
    options: tuple[str, ...]
    environment: Mapping[str, str]


def make_place(case: Case, directory: Path, server: Server) -> Place:
    """Write a case's files. ``{server}`` and ``{place}`` stand in the data files for what is known only now."""
    url = server.offer(case.slug, case.serve, case.git) if case.serve or case.git else ""
    replace = {"{server}": url, "{place}": str(directory)}
    context = directory / "context"
    write_tree(context, case.context, replace)
    write_tree(context, {case.file: case.dockerfile}, replace)
    options = list(case.args)
    for name, files in case.contexts.items():
        write_tree(directory / "contexts" / name, files)
        options += ["--build-context", f"{name}={directory}/contexts/{name}"]
    for old, new in replace.items():
        options = [word.replace(old, new) for word in options]
    return Place(directory, context / case.file, context, tuple(options), dict(case.environment))


def _run(command: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        timeout=TIMEOUT,
        check=False,
    )


@dataclass(frozen=True)
class Ours:
    """The checkout's program with a store of its own."""

    home: Path

    def prepare(self, archive: Path) -> None:
        """Know the base by its name."""
        context = self.home.parent / "base-context"
        write_tree(context, {"Dockerfile": f"FROM docker-archive:{archive}\n"})
        refused = self._boxwright({}, "build", context, "-q", "-t", NAME)
        if refused is not None:
            raise CaseError(refused.said)

    def build(self, case: Case, place: Place, tag: str = "") -> Outcome:
        """Build and look at the result."""
        archive = place.directory / "ours.tar"
        words: list[str | Path] = [
            "build",
            place.context,
            "-f",
            place.file,
            "-q",
            "-o",
            f"docker-archive:{archive}",
            *_network(case),
        ]
        refused = self._boxwright(place.environment, *words, *(["-t", tag] if tag else []), *place.options)
        result = refused or read_docker_archive(archive)
        archive.unlink(missing_ok=True)
        return result

    def _boxwright(self, environment: Mapping[str, str], *words: str | Path) -> Refused | None:
        ended = _run([ROOT / "boxwright", *words], {"BOXWRIGHT_HOME": str(self.home), **environment})
        if ended.returncode == 0:
            return None
        code = re.findall(r"\[([a-z-]+\.[a-z-]+)\]", ended.stderr)
        return Refused(f"status {ended.returncode}: {ended.stderr.strip()}", code[-1] if code else "")


def _network(case: Case) -> list[str]:
    """Steps need no network but where a case is about it; without, both sides are quicker."""
    return [] if any(word.startswith("--network") for word in case.args) else ["--network", "none"]


class Docker:
    """A BuildKit inside a docker engine: the one at hand, or that of DOCKER_HOST. CONFORMANCE_DOCKER is its client."""

    def __init__(self) -> None:
        self._program = os.environ.get("CONFORMANCE_DOCKER", DISTRIBUTIONS_OWN)
        self._tags: set[str] = set()
        self._has_buildx = self._docker("buildx", "version").returncode == 0 and self._program != DISTRIBUTIONS_OWN
        asked = self._docker("version", "--format", "{{.Server.Version}}")
        self.version = asked.stdout.strip()
        self.answers = asked.returncode == 0
        self.frontend = FRONTENDS.get(".".join(self.version.split(".")[:2]), max(FRONTENDS.values(), key=_order))
        if self.answers and self.version.startswith("20."):
            self.frontend = "1.2"

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"docker {'.'.join(self.version.split('.')[:2])} (frontend {self.frontend})"

    def prepare(self, archive: Path) -> None:
        """Load the base."""
        self._docker("load", "-i", archive).check_returncode()
        self._tags.add(NAME)

    def build(self, case: Case, place: Place, tag: str = "") -> Outcome:
        """Build twice (the second time all is cached): the image for its configuration, the tree as an archive."""
        tag = tag or f"{TAG}{case.slug}"
        kind = ("buildx", "build") if self._has_buildx else ("build",)
        words: list[str | Path] = [*kind, "-q", "-f", place.file, *_network(case), *place.options]
        # -q hides why a build failed, so that one is asked for again without it.
        self._tags.add(tag)
        built = self._docker(*words, "-t", tag, place.context, environment=place.environment)
        if built.returncode:
            words.remove("-q")
            again = self._docker(*words, place.context, environment=place.environment)
            return Refused(again.stderr.strip().splitlines()[-1])
        archive = place.directory / "judge.tar"
        words += ["--output", f"type=tar,dest={archive}", place.context]
        self._docker(*words, environment=place.environment).check_returncode()
        (image,) = json.loads(self._docker("image", "inspect", tag).stdout)
        tree = read_tree(archive)
        archive.unlink()
        return Observed(tree, normal_config(image["Config"], image.get("Author", "")))

    def close(self) -> None:
        """Take back the tags."""
        if self._tags:
            self._docker("rmi", *sorted(self._tags))

    def _docker(
        self, *words: str | Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        if shutil.which(self._program) is None:
            return subprocess.CompletedProcess([], 127, "", "not installed")
        return _run(
            [self._program, *words],
            {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", **(environment or {})},
        )


def _order(frontend: str) -> tuple[int, ...]:
    return tuple(map(int, frontend.split(".")))
