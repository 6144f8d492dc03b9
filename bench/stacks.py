"""Rows about stacks: ten containers whose image is at hand, until all of them run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.tools import ROOT, Boxwright, Sample, Tool, containers_configuration, run, succeeds

PROGRAM = ROOT / "boxwright"
COUNT = 10
IMAGE = "boxwright-bench-stack"
RECIPE = """\
FROM scratch
COPY --chmod=755 busybox /bin/busybox
COPY --chmod=755 init /sbin/init
WORKDIR /root
CMD ["/sbin/init"]
"""
INIT = "#!/bin/busybox sh\ntrap 'exit 0' TERM PWR\nwhile :; do /bin/busybox sleep 1 & wait $!; done\n"
NAMES = tuple(f"box{number}" for number in range(COUNT))


def write_image(directory: Path) -> None:
    """One static program and an init that ends at once when it is asked to."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", directory / "busybox")
    (directory / "init").write_text(INIT)
    (directory / "Dockerfile").write_text(RECIPE)


def write_stack(directory: Path, name: str, engine: str, names: Sequence[str]) -> Path:
    """The same containers as an autopilot.yaml and as a compose.yaml."""
    place = directory / name
    place.mkdir(exist_ok=True)
    containers = "".join(f"  {it}: {{image: {IMAGE}}}\n" for it in names)
    text = f"name: {name}\ncontainers:\n{containers}cluster: {{engine: {engine}}}\n"
    (place / "autopilot.yaml").write_text(text)
    services = "".join(f"  {it}: {{image: localhost/{IMAGE}}}\n" for it in names)
    (place / "compose.yaml").write_text(f"services:\n{services}")
    return place


@contextmanager
def kept(home: Path, work: Path, engine: str) -> Iterator[Path]:
    """A stack of ours that keeps the image in the engine; its definition's directory."""
    environment = {"BOXWRIGHT_HOME": str(home), **containers_configuration()}
    write_image(work / "image")
    run([PROGRAM, "build", work / "image", "-f", work / "image/Dockerfile", "-q", "-t", IMAGE], environment)
    place = write_stack(work, f"kept{os.getpid()}", engine, ("box",))
    try:
        run([PROGRAM, "deploy", place / "autopilot.yaml", "-q"], environment)
        yield place
    finally:
        run([PROGRAM, "destroy", place / "autopilot.yaml", "--yes", "--volumes"], environment)


def deploy_ten(home: Path, work: Path, engine: str, *, again: bool = False) -> float:
    """By us; with `again` the second deployment, which finds nothing to do."""
    environment = {"BOXWRIGHT_HOME": str(home), **containers_configuration()}
    with kept(home, work, engine):
        place = write_stack(work, f"ten{os.getpid()}", engine, NAMES)
        command: list[str | Path] = [PROGRAM, "deploy", place / "autopilot.yaml", "-q", "-j", str(COUNT)]
        try:
            seconds = run(command, environment).seconds
            return run(command, environment).seconds if again else seconds
        finally:
            run([PROGRAM, "destroy", place / "autopilot.yaml", "--yes", "--volumes"], environment)


def ten_on_podman(tool: Tool, work: Path) -> float:
    """By us or by podman-compose."""
    if isinstance(tool, Boxwright):
        return deploy_ten(tool.home, work, "podman")
    if not isinstance(tool, PodmanCompose):
        raise TypeError(tool.name)
    return tool.up(work).seconds


def ten_on_lxd(tool: Tool, work: Path) -> float:
    """By us or by `lxc launch`, of the image that a stack of ours brought there."""
    if isinstance(tool, Boxwright):
        return deploy_ten(tool.home, work, "lxd")
    if not isinstance(tool, LxcLaunch):
        raise TypeError(tool.name)
    home = work.parent / "store"
    with kept(home, work, "lxd"):
        return tool.up(_alias(home, work)).seconds


def ten_on_lxd_again(tool: Tool, work: Path) -> float:
    """By us alone."""
    if not isinstance(tool, Boxwright):
        raise TypeError(tool.name)
    return deploy_ten(tool.home, work, "lxd", again=True)


@dataclass
class PodmanCompose:
    """podman-compose from the package index, in a virtual environment of its own."""

    name: str = "podman-compose"
    version: str = "1.6.0"
    environment: Path = ROOT / ".cache" / "podman-compose"

    @property
    def _program(self) -> Path:
        return self.environment / "bin" / "podman-compose"

    def answers(self) -> bool:
        if not succeeds("podman", "info"):
            return False
        if not succeeds(str(self._program), "--version"):
            pip = str(self.environment / "bin" / "pip")
            if not succeeds("python3", "-m", "venv", str(self.environment)):
                return False
            if not succeeds(pip, "install", "--quiet", f"podman-compose=={self.version}"):
                return False
        return succeeds(str(self._program), "--version")

    def prepare(self, base_tar: Path) -> None:
        """The image is made for each measurement."""

    def up(self, work: Path) -> Sample:
        """Ten containers of an image that podman has."""
        write_image(work / "image")
        place = write_stack(work, f"compose{os.getpid()}", "podman", NAMES)
        run(["podman", "build", "-q", "-t", IMAGE, work / "image"])
        try:
            return run([self._program, "-f", place / "compose.yaml", "up", "-d"], containers_configuration())
        finally:
            run([self._program, "-f", place / "compose.yaml", "down", "-t", "1"], containers_configuration())
            run(["podman", "rmi", "-f", IMAGE])


@dataclass
class LxcLaunch:
    """Ten calls of `lxc launch` at once, of the image that the deployment left in LXD."""

    name: str = "lxc launch"

    def answers(self) -> bool:
        return succeeds("lxc", "query", "/1.0")

    def prepare(self, base_tar: Path) -> None:
        """The image is the one that a deployment brings."""

    def up(self, image: str) -> Sample:
        """Until all calls have returned."""
        names = [f"launch{os.getpid()}-{it}" for it in NAMES]
        calls = " ".join(f"lxc launch -q {image} {name} </dev/null &" for name in names)
        try:
            return run(["sh", "-c", f"{calls} wait"])
        finally:
            run(["lxc", "delete", "--force", *names])


def _alias(home: Path, work: Path) -> str:
    """What the image is called in LXD: by its identity in the store."""
    command = [str(it) for it in (PROGRAM, "build", work / "image", "-f", work / "image/Dockerfile", "-q")]
    environment = {**os.environ, "BOXWRIGHT_HOME": str(home)}
    built = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return f"boxwright-image-{built.stdout.strip().removeprefix('sha256:')[:24]}"
