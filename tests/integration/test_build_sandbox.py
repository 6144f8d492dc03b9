"""The sandbox of package builds: what a definition says governs what is inside it, and no program of the host's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.errors import StepError
from boxwright.ports import ActionSpec, ExitStatus
from boxwright.sandbox.bubblewrap import run_build

pytestmark = pytest.mark.integration
Build = Callable[..., tuple[ExitStatus, str]]


@pytest.fixture
def build(tmp_path: Path, busybox_base: Path) -> Build:
    """Run words in the sandbox with these variables; returns how they ended and what they wrote."""
    (tmp_path / "layers/base/build").mkdir(parents=True)
    subprocess.run(["tar", "-xf", busybox_base, "-C", tmp_path / "layers/base"], check=True)
    (tmp_path / "work").mkdir()

    def call(*words: str, **environment: str) -> tuple[ExitStatus, str]:
        heard: list[bytes] = []
        variables = tuple({"PATH": "/bin:/usr/bin", **environment}.items())
        spec = ActionSpec(str(tmp_path / "layers"), ("base",), str(tmp_path / "work"), "", words, variables)
        status = run_build(spec, heard.append, lambda: False)
        return status, b"".join(heard).decode()

    return call


def test_a_path_of_the_definition_finds_no_program_of_the_host(build: Build, tmp_path: Path) -> None:
    fake = tmp_path / "programs/bwrap"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/outside\n")
    fake.chmod(0o755)
    status, said = build("/bin/sh", "-c", "echo $PATH", PATH=f"{fake.parent}:/bin")
    assert (status.code, said) == (0, f"{fake.parent}:/bin\n")
    assert not (tmp_path / "outside").exists()
    assert build("true", PATH=str(fake.parent))[0].code != 0, "PATH counts inside"


@pytest.mark.parametrize("name", ["LD_DEBUG_OUTPUT", "LD_PROFILE_OUTPUT"])
def test_what_the_loader_is_told_is_told_inside(build: Build, tmp_path: Path, name: str) -> None:
    """As LD_PRELOAD, it would act on bubblewrap itself."""
    place = tmp_path / "loader"
    place.mkdir(mode=0o777)
    status, said = build("/bin/sh", "-c", f"echo ${name}", LD_DEBUG="files", **{name: f"{place}/seen"})
    assert status.code == 0
    assert said.splitlines()[-1] == f"{place}/seen"
    assert os.listdir(place) == []


def test_the_environment_is_the_definitions_alone(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "x")
    status, said = build("/bin/env", A="b=c\nd", EMPTY="", **{"WITH.DOT": "--bind"})
    assert status.code == 0
    assert said == "PATH=/bin:/usr/bin\nA=b=c\nd\nEMPTY=\nWITH.DOT=--bind\nPWD=/build\n"


def test_many_variables(build: Build) -> None:
    """More than the words of a command line that others see should hold, up to what execve(2) takes."""
    status, said = build("/bin/sh", "-c", "echo ${#V0} ${#V99}", **{f"V{number}": "x" * 9000 for number in range(100)})
    assert (status.code, said) == (0, "9000 9000\n")
    assert build("/bin/true", V="x" * 200_000)[0].code != 0


@pytest.mark.parametrize("words", [("/bin/true",), ("/bin/echo", "x" * 200_000)])
def test_what_no_program_can_be_given(build: Build, words: tuple[str, ...]) -> None:
    """A NUL would end an option of bubblewrap's and begin another."""
    environment = {"A": "x\0--bind\0/\0/mnt"} if len(words) == 1 else {}
    with pytest.raises(StepError) as caught:
        build(*words, **environment)
    assert caught.value.code == "sandbox.start"


# What it leaves ------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, busybox_base: Path) -> Callable[[str], str]:
    """Run a script that is to make /build/out/package.tar; returns what is there."""
    (tmp_path / "layers/base/build").mkdir(parents=True)
    subprocess.run(["tar", "-xf", busybox_base, "-C", tmp_path / "layers/base"], check=True)
    (tmp_path / "work/out").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/package.tar").write_text("of the host")

    def call(script: str) -> str:
        words = ("/bin/sh", "-euc", f"cd /build; {script}")
        variables = (("PATH", "/bin"), ("OUTSIDE", str(tmp_path / "outside")))
        work, mount = str(tmp_path / "work"), str(tmp_path / "root")
        spec = ActionSpec(str(tmp_path / "layers"), ("base",), work, mount, words, variables, output="out/package.tar")
        assert run_build(spec, lambda _: None, lambda: False).code == 0
        return (tmp_path / "work/out/package.tar").read_text()

    return call


def test_what_the_build_made_is_taken(made: Callable[[str], str]) -> None:
    assert made("echo made > out/package.tar; echo more > out/more; chmod 700 out") == "made\n"


@pytest.mark.parametrize(
    "script",
    [
        "mkfifo out/package.tar",
        "mkdir out/package.tar",
        "ln -s $OUTSIDE/package.tar out/package.tar",
        "rmdir out; ln -s $OUTSIDE out",
        "rmdir out; echo no > out",
        "true",
    ],
)
def test_what_the_build_left_leads_nowhere(made: Callable[[str], str], tmp_path: Path, script: str) -> None:
    """Who opened a pipe would wait for ever; a link would make a file of the host's the package."""
    with pytest.raises(StepError) as caught:
        made(script)
    assert caught.value.code == "package.no-archive"
    assert (tmp_path / "outside/package.tar").read_text() == "of the host"
