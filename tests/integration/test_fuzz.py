"""A few seconds of what `make fuzz` does for longer, and that it finds what is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SECONDS = 3


def fuzz(*arguments: str, work: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("atheris") is None:
        assert os.environ.get("CI") != "true", "atheris is missing"
        pytest.skip("atheris is missing: it has wheels for some machines only")
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("target", ["parser", "words", "ignore"])
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    done = fuzz(target, "--seconds", str(SECONDS), work=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
    # As many as the seeds at least: else nothing was tried.
    assert int(runs[0]) > 50


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    given = tmp_path / "input"
    given.write_bytes(b"FROM scratch\nUSER x\n")
    assert fuzz("parser", "--input", str(given), work=tmp_path).returncode == 0
    with (tmp_path / "sitecustomize.py").open("w") as patch:
        patch.write("import boxwright.frontends.recipe.settings as s\ns.SETTINGS['USER'] = None\n")
    command = [sys.executable, "-m", "tests.fuzz", "parser", "--input", str(given)]
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"TypeError" in done.stderr
