"""Rows about bundles: made of a repository, fetched by a container that starts, made again at each change."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tools import ROOT, run
from tests.integration.conftest import free_port

FILES = 10_000
LINES = 200
LARGE_FILES, LARGE_BYTES = 200, 100_000
PATIENCE = 60.0


def write_repository(directory: Path) -> None:
    """So many files of text (80 MB), in one commit, packed."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 10))) for _ in range(3000)]
    lines = [" ".join(chance.choices(words, k=chance.randint(1, 12))) for _ in range(5000)]
    for number in range(FILES):
        path = directory / f"{number // 100:02}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(chance.choices(lines, k=LINES)))
    commit_all(directory)


def commit_all(directory: Path) -> None:
    """As a repository of its own: it may lie in somebody else's."""
    person = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "bench"], ["repack", "-q", "-a", "-d"]):
        run(["git", "-C", directory, *person, *command])


@contextmanager
def program(home: Path, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The program in the background."""
    environment = {**os.environ, "BOXWRIGHT_HOME": str(home)}
    command = [ROOT / "boxwright", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def answer_seconds(port: int, wanted: bytes, started: float) -> float:
    """When the program on `port` answered so, in seconds after `started`."""
    while time.perf_counter() < started + PATIENCE:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                if answer.read() == wanted:
                    return time.perf_counter() - started
        except OSError:
            pass
        time.sleep(0.005)
    raise TimeoutError(f"no answer on port {port}")


def have_base(home: Path) -> None:
    run([ROOT / "boxwright", "build", ROOT / "images/base", "-q", "--target", "static", "-t", "base/static"],
        {"BOXWRIGHT_HOME": str(home)})  # fmt: skip


def start(home: Path, work: Path) -> float:
    """A container of base/static fetches a bundle of 20 MB from `boxwright bundle serve`, until it answers."""
    have_base(home)
    shutil.rmtree(work, ignore_errors=True)
    (work / "app").mkdir(parents=True)
    for number in range(LARGE_FILES):
        (work / "app" / f"{number}.bin").write_bytes(os.urandom(LARGE_BYTES))
    (work / "app/index.html").write_bytes(b"large")
    commit_all(work / "app")
    own = {"BOXWRIGHT_HOME": str(home)}
    run([ROOT / "boxwright", "bundle", work / "app", "-o", work / "dist"], own)
    with program(home, "bundle", "serve", work / "dist", "--port", "0", "-q") as server:
        url = server.stdout.readline().strip() if server.stdout else ""
        port, name = free_port(), f"bench-{os.getpid()}"
        variables = [f"PACKAGE_ZIP_URL={url}", f"PORT={port}", "HEALTH_PORT=0"]
        words = [word for variable in variables for word in ("-e", variable)]
        started = time.perf_counter()
        try:
            run([ROOT / "boxwright", "run", "-d", "--name", name, "--network", "host", *words, "base/static"], own)
            return answer_seconds(port, b"large", started)
        finally:
            run([ROOT / "boxwright", "rm", "-f", name], own)


def watch(home: Path, work: Path) -> float:
    """`run --bundle --watch`: from saving a file until the container answers with it."""
    have_base(home)
    shutil.rmtree(work, ignore_errors=True)
    (work / "app").mkdir(parents=True)
    for number in range(LARGE_FILES):
        (work / "app" / f"{number}.txt").write_bytes(os.urandom(LARGE_BYTES // 10))
    (work / "app/index.html").write_bytes(b"before")
    port, name = free_port(), f"bench-{os.getpid()}"
    words = ["-e", f"PORT={port}", "-e", "HEALTH_PORT=0", "--network", "host", "--rm", "--name", name]
    with program(home, "run", *words, "--bundle", work / "app", "--watch", "base/static"):
        answer_seconds(port, b"before", time.perf_counter())
        started = time.perf_counter()
        (work / "app/index.html").write_bytes(b"after")
        seconds = answer_seconds(port, b"after", started)
        run([ROOT / "boxwright", "stop", name], {"BOXWRIGHT_HOME": str(home)})
    return seconds
