"""The program that puts secrets into an environment, run on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from boxwright.engines.envsecrets import secrets_program


@pytest.fixture
def program(tmp_path: Path) -> Path:
    made = tmp_path / "program"
    made.write_bytes(secrets_program(os.uname().machine))
    made.chmod(0o755)
    (tmp_path / "TOKEN").write_text("hush  hush\nhush")
    (tmp_path / "EMPTY").write_text("")
    (tmp_path / "LARGE").write_text("x" * 60000)
    (tmp_path / "TOO_LARGE").write_text("x" * 70000)
    return made


def run(program: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/nowhere:/usr/bin:/bin", "KEPT": "kept", **environment}
    command = [str(program), str(program.parent), *words]
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False)


def test_a_command_finds_secrets_in_its_environment(program: Path) -> None:
    show = 'printf "%s|" "$TOKEN" "$EMPTY" "$KEPT" "$0" "$1"'
    done = run(program, "TOKEN", "EMPTY", "--", "sh", "-c", show, "zero", "one  two")
    assert (done.returncode, done.stdout) == (0, "hush  hush\nhush||kept|zero|one  two|")
    assert run(program, "LARGE", "TOKEN", "--", "/bin/sh", "-c", "echo ${#LARGE} $KEPT").stdout == "60000 kept\n"
    assert run(program, "--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("TOKEN", "--", "no-such-command"), 127),
        (("TOKEN", "--", "/no/such/command"), 127),
        (("TOKEN", "--", "/etc/passwd"), 126),
        (("NONE", "--", "true"), 125),
        (("TOO_LARGE", "--", "true"), 125),
        (("TOKEN", "--"), 125),
        (("TOKEN",), 125),
        ((), 125),
    ],
)
def test_what_can_not_be_run(program: Path, words: tuple[str, ...], status: int) -> None:
    assert run(program, *words).returncode == status


def test_there_is_one_for_other_machines_too() -> None:
    assert secrets_program("arm64") == secrets_program("aarch64") != secrets_program("x86_64")
    with pytest.raises(KeyError):
        secrets_program("vax")
