"""Killed at any moment: the next build finishes, and the image is the one of an undisturbed build.

`make crash` kills a hundred times, `make test` takes a sample (BOXWRIGHT_KILLS).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("BOXWRIGHT_KILLS", "12"))


def _recipe(base: Path, salt: int) -> str:
    """Steps of each kind; `salt` makes them new, so that there is something to interrupt."""
    return (
        f"FROM tar:{base} AS one\nRUN echo {salt} > /one; for i in 1 2 3; do echo $i > /f$i; done\n"
        f"FROM tar:{base}\nWORKDIR /srv\nCOPY . /srv\nRUN echo {salt} > /two && rm /srv/f1\n"
        "COPY --from=one /f1 /f2 /one /out/\nRUN ls -R / > /dev/null\n"
    )


def test_killed_at_random_moments(context: Callable[..., Path], busybox_base: Path, tmp_path: Path) -> None:
    program = Program(tmp_path / "store")
    reference = Program(tmp_path / "reference")
    files = {f"f{number}": "x" * number * 100 for number in range(200)}
    chance = random.Random(20261121)
    whole = 1.0
    for number in range(KILLS):
        place = context(_recipe(busybox_base, number), files)
        process = program.start("build", place, "-q", "--network", "none")
        time.sleep(chance.uniform(0, whole))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        started = time.monotonic()
        after = program("build", place, "-q", "--network", "none").out
        whole = max(0.15, min(whole, time.monotonic() - started))
        assert after == reference("build", place, "-q", "--network", "none").out
    program("fsck")
    work = [name for name in os.listdir(tmp_path / "store" / "work") if not name.endswith(".lock")]
    assert len(work) <= 1, "what killed builds left is removed by later ones"


def test_interrupted_build_leaves_nothing_running(
    boxwright: Program, context: Callable[..., Path], busybox_base: Path
) -> None:
    place = context(f"FROM tar:{busybox_base}\nRUN echo {time.time_ns()}; sleep 60\n")
    process = boxwright.start("build", place, "--progress", "plain")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "[interrupted]" in err
    assert "Traceback" not in err


def test_full_disk_is_one_clear_message(context: Callable[..., Path], busybox_base: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small], check=True)
    try:
        place = context(f"FROM tar:{busybox_base}\nCOPY big /big\n", {"big": os.urandom(16 << 20)})
        result = Program(small / "store")("build", place, status=None)
        assert result.status in (1, 4)
        assert "no-space" in result.err
        assert "Traceback" not in result.err
    finally:
        subprocess.run(["umount", small], check=True)


def test_read_only_store(context: Callable[..., Path], tmp_path: Path) -> None:
    place = context("FROM scratch\nWORKDIR /x\n")
    store = tmp_path / "readonly"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", store], check=True)
    try:
        result = Program(store / "store")("build", place, status=4)
        assert "[store.unusable]" in result.err
    finally:
        subprocess.run(["umount", store], check=True)
