"""100 trivial packages on one buildbox-casd, built by boxwright and by BuildStream.

Both work on the same root file system, on the same kind of server with the same number of jobs; each run has a salt of
its own, so nothing is in any cache but the root.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tools
from bench.tools import ROOT, run
from tests.casd import Casd, buildbox

if TYPE_CHECKING:
    from bench.cases import Bench

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


def packages_on_a_server(bench: Bench) -> float:
    """A server of its own for each tool; the first build, which brings the root file system there, is not counted."""
    root = bench.work / "base.tar"
    if not root.exists():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", root], check=True)
    place = bench.work / f"remote-{bench.salt()}"
    place.mkdir()
    casd = Casd(buildbox(bench.work), place / "casd", jobs=JOBS)
    try:
        tool: Ours | BuildStream
        if isinstance(bench.tool, tools.BuildStream):
            tool = BuildStream(place, root, casd.url, bench.tool.environment / "bin/bst")
        else:
            tool = Ours(place, root, casd.url)
        tool.write(bench.salt())
        tool.build()
        tool.write(bench.salt())
        return tool.build()
    finally:
        casd.close()
        shutil.rmtree(place, ignore_errors=True)
