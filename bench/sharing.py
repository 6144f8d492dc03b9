"""Rows about binary repositories on loopback, served by `boxwright serve`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tools import ROOT, Sample, run
from tests.integration.hosttoolchain import make_toolchain

PACKAGES = 100


@contextmanager
def repository(work: Path) -> Iterator[Path]:
    """A tree whose configuration names a repository that is written as a directory and read over HTTP."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "tree/.git").mkdir(parents=True)
    (work / "repository").mkdir()
    words: list[str | Path] = [ROOT / "boxwright", "serve", work / "repository", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = [server.stdout.readline() for _ in range(2)][1].split()[-1] if server.stdout else ""
            (work / "tree/.boxwright-config.yaml").write_text(
                f"repository: {{name: here, upload-type: directory, upload-path: {work}/repository,"
                f" download-type: http, download-path: '{address}'}}\n"
            )
            yield work / "tree"
        finally:
            server.terminate()


def boxwright(home: Path, *words: str | Path, cwd: Path | None = None) -> Sample:
    """Run it with the store `home`."""
    environment = {"BOXWRIGHT_HOME": str(home), "HOME": str(home.parent), "XDG_CONFIG_HOME": ""}
    return run([ROOT / "boxwright", *words], environment, cwd)


def say_moved(what: str, size: int, sample: Sample) -> None:
    """What a push cost beside its time."""
    moved, memory = size / 1e6, sample.peak_bytes / 1e6
    print(f"{what}: {moved:.3f} MB moved, {memory:.0f} MB of memory at most", file=sys.stderr, flush=True)


def stored(repository: Path) -> int:
    """The bytes of everything in a repository."""
    return sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())


def fetch_packages(work: Path) -> float:
    """An empty store builds a package that depends on a hundred others, all of which are in the repository."""
    with repository(work) as tree:
        toolchain = make_toolchain(work / "toolchain.tar", work)
        for number in range(PACKAGES):
            _package(tree, f"p{number}", toolchain, "")
        needs = ", ".join(f"./../p{number}" for number in range(PACKAGES))
        _package(tree, "all", toolchain, f"build-depends: [{needs}]\n")
        boxwright(work / "first", "build", tree / "all", "--push", "-q")
        boxwright(work / "second", "build", tree / "p0", "-q")  # the toolchain, which is not what is measured
        (tree / "p0/note").write_text("x")
        _package(tree, "other", toolchain, f"build-depends: [{needs}]\n")
        return boxwright(work / "second", "build", tree / "other", "-q").seconds


def _package(tree: Path, name: str, toolchain: Path, more: str) -> None:
    (tree / name).mkdir()
    (tree / name / "pkg.yaml").write_text(
        f"name: {name}\nversion: 1\nphases: {{install: 'mkdir -p $DESTDIR/usr/share/{name};"
        f" echo {name} >$DESTDIR/usr/share/{name}/x'}}\ntoolchain: tar:{toolchain}\n{more}"
    )


def push_changed(work: Path) -> float:
    """One file of an image of 280 MB changed: the push."""
    import random

    with repository(work) as tree:
        noise = random.Random(1)
        (tree / "files").mkdir()
        for number in range(280):
            (tree / "files" / f"{number}").write_bytes(noise.randbytes(1_000_000))
        (tree / "Recipe").write_text("FROM scratch\nCOPY files /\n")
        boxwright(work / "first", "build", tree, "-t", "data", "-q")
        whole = boxwright(work / "first", "push", "data", cwd=tree)
        before = stored(work / "repository")
        say_moved("push-changed, the whole image", before, whole)
        (tree / "files/7").write_bytes(noise.randbytes(1_000_000))
        boxwright(work / "first", "build", tree, "-t", "data", "-q")
        changed = boxwright(work / "first", "push", "data", cwd=tree)
        say_moved("push-changed", stored(work / "repository") - before, changed)
        return changed.seconds
