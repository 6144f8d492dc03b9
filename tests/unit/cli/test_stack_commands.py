"""The command line of stacks: nonsense is refused before anything happens, and a unit does what its command does."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from boxwright.cli.main import main
from boxwright.cli.status import missing
from boxwright.deploy.history import Release
from boxwright.model.deployment import (
    OFFLINE,
    RUNNING,
    ContainerSpec,
    Desired,
    Instance,
    InstanceSpec,
    Member,
    Observed,
)

STACK = "name: shop\ncontainers: {web: {image: web}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "place"
    directory.mkdir()
    (directory / "autopilot.yaml").write_text(STACK)
    monkeypatch.setenv("BOXWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(directory)
    return directory


NONSENSE = [
    ("usage.number", "deploy -j 0"),
    ("usage.number", "deploy -j -3"),
    ("usage.number", "deploy -j 2.5"),
    ("usage.number", "deploy -j 99999999999"),
    ("usage.number", "deploy -j many"),
    ("usage.number", "scale -j 0 web=2"),
    ("usage.number", "rollback -j 0"),
    ("usage.number", "rollback 0"),
    ("usage.number", "rollback -1"),
    ("usage.number", "rollback two"),
    ("usage.time", "watch --interval 0"),
    ("usage.time", "watch --interval nan"),
    ("usage.time", "watch --interval=-1"),
    ("usage.time", "watch --member-patience inf"),
    ("usage.time", "watch --stop-after nan"),
    ("usage.time", "watch --take-over-after nan"),
    ("usage.time", "watch --take-over-after soon"),
    ("usage.watch", "watch --unit --once"),
    ("usage.scale", "scale web"),
    ("usage.scale", "scale =3"),
    ("usage.scale", "scale web=-1"),
    ("usage.scale", "scale web=1.5"),
    ("usage.scale", "scale web=9999999999999999999999"),
    ("usage.scale", "scale web=1 web=2"),
    ("usage.remote", "deploy --remote prod"),
    ("usage.remote", "status --remote prod"),
    ("usage.remote", "status shop --engine podman --remote prod"),
    ("usage.profile", "deploy --profile debug"),
    ("usage.stack", "destroy ../l --yes"),
    ("usage.stack", "status ''"),
    ("usage.stack", "events ../none"),
    ("usage.stack", "watch --unit 'a b'"),
    ("usage.stack", "volume snapshot X/data"),
    ("usage.stack", "logs Shop/"),
    ("usage.engine", "logs one --engine podman"),
    ("usage.engine", "exec --engine podman one true"),
    ("usage.engine", "diff one two --remote prod"),
    ("usage.engine", "volume ls --engine podman"),
    ("usage.exec", "exec shop/ true"),
    ("usage.command", "exec shop/web"),
    ("usage.offline-after", "cluster init --address here --offline-after -5"),
    ("usage.source", "cluster join --address here --source pool"),
]


@pytest.mark.parametrize(("code", "words"), NONSENSE, ids=[words for _, words in NONSENSE])
def test_nonsense_is_refused_before_anything_happens(
    place: Path, code: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(words)) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert not (place.parent / "home").exists(), "the store was opened"


@pytest.mark.usefixtures("place")
def test_several_definitions_in_one_directory_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "compose.yaml").write_text("name: other\nservices: {web: {image: web}}\n")
    assert main(["watch", "--unit"]) == 2
    assert "autopilot.yaml and compose.yaml" in capsys.readouterr().err
    assert main(["watch", "--unit", "compose.yaml"]) == 0
    assert "watch other " in capsys.readouterr().out
    assert main(["watch", "--unit", "shop"]) == 0, "a name says which is meant"
    assert "watch shop " in capsys.readouterr().out
    (place / "compose.yaml").write_text("name: shop\nservices: {web: {image: web}}\n")
    assert main(["watch", "--unit", "shop"]) == 2
    assert "[definition.several]" in capsys.readouterr().err


def unit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], dict[str, str]]:
    """Its command's words after the program, and its environment, as systemd reads them."""
    assert main(["watch", "--unit", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    assert len(starts) == 1
    given = [line.removeprefix("Environment=").replace("%%", "%") for line in lines if line.startswith("Environment=")]
    pairs = [shlex.split(it)[0].partition("=") for it in given]
    command = shlex.split(starts[0].replace("%%", "%"))
    return [it.replace("$$", "$") for it in command[1:]], {name: value for name, _, value in pairs}


def test_a_unit_is_given_all_that_its_command_was(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LXD_CONF", '/conf of "mine"\\n')
    monkeypatch.setenv("BOXWRIGHT_HOME", "home 100%")
    assert unit(capsys)[0] == ["watch", "shop", "--engine", "native"]
    (place / "autopilot.yaml").write_text(f"{STACK}cluster: {{engine: lxd, remote: prod}}\n")
    words, environment = unit(capsys)
    assert words == ["watch", "shop", "--engine", "lxd", "--remote=prod"]
    assert environment["LXD_CONF"] == '/conf of "mine"\\n'
    assert environment["BOXWRIGHT_HOME"] == f"{place}/home 100%"
    assert environment["HOME"] == os.environ["HOME"]
    fence = 'it\'s "$BOXWRIGHT_MEMBER" 5%; \\x\tand'
    given = [
        "--interval=0.5",
        "--member-patience=4.0",
        "--stop-after=9.0",
        "--take-over-after=18.0",
        f"--fence={fence}",
    ]
    words, _ = unit(capsys, "--remote", "else", *given)
    assert words == ["watch", "shop", "--engine", "lxd", "--remote=else", *given]


def test_a_unit_starts_this_checkout_wherever_it_was_called(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["boxwright", "watch"])
    assert main(["watch", "--unit"]) == 0
    start = next(it for it in capsys.readouterr().out.splitlines() if it.startswith("ExecStart="))
    assert start.split()[0] == f"ExecStart={Path(__file__).parents[3] / 'boxwright'}"
    own = place / "my own"
    own.mkdir()
    (own / "boxwright").write_text("#!/bin/sh\n")
    (own / "boxwright").chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(own / "boxwright"), "watch"])
    assert main(["watch", "--unit"]) == 0
    assert f'ExecStart="{own}/boxwright" watch shop' in capsys.readouterr().out


def test_what_is_missing_is_what_the_release_has_and_nobody_is() -> None:
    webs = tuple(InstanceSpec("web", number, "one", "one") for number in (1, 2))
    balancers = tuple(InstanceSpec("lb", number, "one", "one") for number in (1, 2, 3))
    desired = Desired("shop", (ContainerSpec("web", webs), ContainerSpec("lb", balancers)))
    releases = (Release(1, 0, "deploy", desired),)
    there = (Instance("shop-web-1-g2", "web", 1, 2, "", RUNNING), Instance("shop-lb-1-g1", "lb", 1, 1, "", RUNNING))

    def names(observed: Observed) -> list[str]:
        return [it.logical for it in missing(observed, releases)]

    assert missing(Observed(there), ()) == []
    assert names(Observed(there)) == ["web-2", "lb-2", "lb-3"]
    members = (Member("n1"), Member("n2"), Member("n3", state=OFFLINE))
    assert names(Observed(there, members=members)) == ["web-2", "lb-2"], "one for each member that is there"
    assert names(Observed(there, members=members[:1])) == ["web-2"]
    assert len(names(Observed())) == 5
