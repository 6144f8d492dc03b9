"""What is measured: one entry of `CASES` for each row.

A cold run differs from every run before it by its salt: a word in the recipe, or in each file that is copied.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import bundles, manifests
from bench.remote import packages_on_a_server
from bench.sharing import fetch_packages, push_changed, say_moved
from bench.stacks import ten_on_lxd, ten_on_lxd_again, ten_on_podman
from bench.tools import Boxwright, Builder, BundleTool, PackageTool, Tool
from boxwright.frontends.recipe.frontend import RecipeOptions, build_graph
from boxwright.model.span import Span
from boxwright.ports import ResolvedBase

FILES = 10_000
FILE_BYTES = 11_800
STAGES = 8
CHAINS = 10
STAGE_BYTES = 8_000_000
FILLER_BYTES = 110_000_000
FILLER_PART = 1_000_000
APP_FILES = 200
REGISTRY = "127.0.0.1:5000"


@dataclass(frozen=True)
class Bench:
    """One tool, a directory to work in, and salts that were never used before."""

    tool: Tool
    work: Path

    @property
    def builder(self) -> Builder:
        """The tool, which builds images."""
        if not isinstance(self.tool, Builder):
            raise TypeError(self.tool.name)
        return self.tool

    def salt(self) -> str:
        return os.urandom(8).hex()

    @contextmanager
    def context(self, *lines: str) -> Iterator[Path]:
        """A build context with a recipe of the base and these lines."""
        directory = self.work / f"context-{self.salt()}"
        directory.mkdir()
        write_recipe(directory, f"FROM {self.builder.base}", *lines)
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


@dataclass(frozen=True)
class Case:
    """A row: its name, the work in words, what it may take here at most, and how it is measured once."""

    name: str
    work: str
    limit: float | None
    measure: Callable[[Bench], float]
    peers: tuple[str, ...] = ("BuildKit", "buildah")
    runs: int | None = None  # fewer than the others, where one run tells enough
    times: float | None = None  # at most so many times what the first of the peers takes


def write_recipe(directory: Path, *lines: str) -> None:
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")


# Many small steps ----------------------------------------------------------------------------------------------------


def echoes(count: int, salt: str) -> list[str]:
    return [f"RUN echo {number} {salt}" for number in range(count)]


def run_cold(bench: Bench, count: int = 50) -> float:
    with bench.context(*echoes(count, bench.salt())) as context:
        return bench.builder.build(context).seconds


def run_cached(bench: Bench) -> float:
    with bench.context(*echoes(50, "always the same")) as context:
        bench.builder.build(context)
        return bench.builder.build(context).seconds


# Many files ----------------------------------------------------------------------------------------------------------


def write_files(directory: Path, salt: str) -> None:
    filler = os.urandom(FILE_BYTES)
    for number in range(FILES):
        path = directory / "files" / f"{number // 100:02}" / f"{number}.bin"
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        head = f"{salt} {number}\n".encode()
        path.write_bytes(head + filler[len(head) :])


@contextmanager
def copying(bench: Bench) -> Iterator[Path]:
    salt = bench.salt()
    with bench.context("COPY files /srv/files", f"RUN echo {salt}") as context:
        write_files(context, salt)
        yield context


def copy_cold(bench: Bench) -> float:
    with copying(bench) as context:
        return bench.builder.build(context).seconds


def copy_cached(bench: Bench) -> float:
    with copying(bench) as context:
        bench.builder.build(context)
        return bench.builder.build(context).seconds


def copy_edited(bench: Bench) -> float:
    with copying(bench) as context:
        bench.builder.build(context)
        (context / "files" / "50" / "5000.bin").write_text(bench.salt())
        return bench.builder.build(context).seconds


# Stages and archives -------------------------------------------------------------------------------------------------


def stages(bench: Bench) -> float:
    salt, base = bench.salt(), bench.builder.base
    lines: list[str] = []
    for number in range(STAGES):
        lines += [
            f"FROM {base} AS stage{number}",
            f"RUN sleep 1 && head -c {STAGE_BYTES} /dev/urandom > /made && echo {salt}",
        ]
    lines += [f"FROM {base}", *(f"COPY --from=stage{number} /made /made{number}" for number in range(STAGES))]
    with bench.context() as context:
        write_recipe(context, *lines)
        return bench.builder.build(context).seconds


def write_filler(path: Path) -> None:
    """Half of it compresses. In small parts: a child's peak memory counts from what this process ever had."""
    with path.open("wb") as file:
        for _ in range(FILLER_BYTES // FILLER_PART // 2):
            part = os.urandom(FILLER_PART)
            file.write(part)
            file.write(part.hex().encode()[:FILLER_PART])


def export(bench: Bench) -> float:
    archive = bench.work / "image.tar"
    with bench.context("COPY filler /filler") as context:
        write_filler(context / "filler")
        bench.builder.build(context)
        archive.unlink(missing_ok=True)
        seconds = bench.builder.export(context, archive).seconds
        archive.unlink()
        return seconds


def push_edited(bench: Bench) -> float:
    """To the registry that `make engines` starts."""
    name = f"{REGISTRY}/bench/{bench.tool.name.lower()}:latest"
    with bench.context("COPY filler /srv/filler", "COPY app /srv/app") as context:
        write_filler(context / "filler")
        for number in range(APP_FILES):
            path = context / "app" / f"{number // 20:02}" / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(FILE_BYTES))
        bench.builder.build(context)
        bench.builder.push(context, name)
        before = layers_of(name)
        (context / "app" / "03" / "70.txt").write_text(bench.salt())
        bench.builder.build(context)
        sample = bench.builder.push(context, name)
        new = [size for digest, size in layers_of(name).items() if digest not in before]
        say_moved(f"push-edited, {bench.builder.name}", sum(new), sample)
        return sample.seconds


def layers_of(name: str) -> dict[str, int]:
    """The layers that a registry has under a name, with their sizes."""
    host, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": kinds})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {it["digest"]: it["size"] for it in json.load(answer)["layers"]}


def plan(bench: Bench) -> float:
    with bench.context(*echoes(10_000, bench.salt())) as context:
        return bench.builder.build(context, "--dry-run").seconds


class NoBases:
    """The recipe that is parsed begins from scratch."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        raise AssertionError(name)

    def recipe(self, name: str) -> tuple[str, str]:
        raise AssertionError(name)


def mixed(lines: int) -> str:
    """A recipe of so many lines, with something of everything."""
    found = ["FROM scratch"]
    for number in range(lines // 10):
        found += [
            f"# part {number}",
            f"ENV V{number % 40}=value{number}",
            "RUN apt-get install -y \\",
            f"  package{number} \\",
            f"  && echo $V{number % 40}",
            f"COPY --chown=1:1 a{number} /b/$V{number % 40}/",
            f'LABEL l{number % 50}="x y"',
            f"WORKDIR /w/{number}",
            "",
            f"ARG A{number % 30}=${{V{number % 40}:-x}}",
        ]
    return "\n".join(found[:lines])


def parse(bench: Bench) -> float:
    """In this process: what a recipe costs beside the start of the interpreter."""
    del bench
    text = mixed(10_000)
    started = time.perf_counter()
    build_graph(text, "Dockerfile", resolver=NoBases(), options=RecipeOptions())
    return time.perf_counter() - started


# Packages ------------------------------------------------------------------------------------------------------------


@contextmanager
def chains(bench: Bench, length: int) -> Iterator[tuple[PackageTool, Path]]:
    """Ten chains of packages, each of which writes one file and sees the one before it."""
    tool = bench.tool
    if not isinstance(tool, PackageTool):
        raise TypeError(tool.name)
    directory = bench.work / f"packages-{bench.salt()}"
    directory.mkdir()
    tool.write_packages(directory, CHAINS, length, bench.salt())
    try:
        yield tool, directory
    finally:
        shutil.rmtree(directory)


def packages_cold(bench: Bench) -> float:
    with chains(bench, 10) as (tool, directory):
        return tool.build_packages(directory).seconds


def packages_nothing(bench: Bench, length: int = 10) -> float:
    """The second of two builds after the first: what was made on the way is then at hand for every tool."""
    with chains(bench, length) as (tool, directory):
        tool.build_packages(directory)
        return tool.build_packages(directory).seconds


# Bundles -------------------------------------------------------------------------------------------------------------


def bundle_files(bench: Bench) -> float:
    repository, tool = bench.work / "bundle-repository", bench.tool
    if not isinstance(tool, BundleTool):
        raise TypeError(tool.name)
    if not repository.exists():
        bundles.write_repository(repository)
    directory = bench.work / "bundle-dist"
    shutil.rmtree(directory, ignore_errors=True)
    return tool.bundle(repository, directory).seconds


def own_store(bench: Bench) -> Path:
    if not isinstance(bench.tool, Boxwright):
        raise TypeError(bench.tool.name)
    return bench.tool.home


PACKAGE_PEERS = ("BuildStream",)

CASES = (
    Case("run-50", "50 RUN steps, nothing cached", 0.5, run_cold),
    Case("run-50-cached", "the same, all cached", 0.06, run_cached),
    Case("copy", "COPY of 10,000 files (118 MB) and one RUN, nothing cached", 0.9, copy_cold),
    Case("copy-cached", "the same, all cached", 0.12, copy_cached),
    Case("copy-edited", "the same, one file edited", 0.3, copy_edited),
    Case("stages", "8 stages (sleep 1, 8 MB), then 8 COPY --from", 1.5, stages),
    Case("export", "a 280 MB image to an OCI archive", 1.0, export),
    Case("push-edited", "push of a 280 MB image of which one file changed", 1.0, push_edited),
    Case("parse-10000", "a recipe of 10,000 lines becomes a graph, without the process", 0.2, parse, peers=()),
    Case("plan-10000", "plan of 10,000 steps, whole process", 1.0, plan, peers=()),
    Case("run-1000", "1,000 RUN steps, nothing cached", None, lambda bench: run_cold(bench, 1000), peers=(), runs=1),
    Case(
        "manifest-20-cached",
        "a manifest of 20 steps, all cached",
        0.15,
        lambda bench: manifests.cached(own_store(bench), bench.work / "manifests"),
        peers=(),
    ),
    Case(
        "manifest-20",
        "the same, nothing cached but the base",
        None,
        lambda bench: manifests.uncached(own_store(bench), bench.work / "manifests"),
        peers=(),
    ),
    Case(
        "lxd-step",
        "a step of a manifest on LXD, pool of btrfs",
        0.05,
        lambda bench: manifests.lxd_step(own_store(bench), bench.work / "lxd"),
        peers=(),
        runs=3,
    ),
    Case("packages-100", "100 packages in ten chains, cold", 1.5, packages_cold, PACKAGE_PEERS),
    Case("packages-100-nothing", "the same, nothing to do", 0.15, packages_nothing, PACKAGE_PEERS),
    Case(
        "packages-1000-nothing",
        "1,000 packages in ten chains, nothing to do",
        1.0,
        lambda bench: packages_nothing(bench, 100),
        peers=(),
        runs=1,
    ),
    Case(
        "fetch-100",
        "100 packages from a binary host on loopback, and one build",
        2.0,
        lambda bench: fetch_packages(bench.work / "sharing"),
        peers=(),
        runs=1,
    ),
    Case(
        "bundle-10000",
        "a bundle of 10,000 committed files (80 MB of text)",
        None,
        bundle_files,
        peers=("git archive",),
        times=1.5,
    ),
    Case(
        "bundle-start",
        "a container starts with a bundle of 20 MB from loopback, until it answers",
        1.0,
        lambda bench: bundles.start(own_store(bench), bench.work / "bundle-start"),
        peers=(),
    ),
    Case(
        "bundle-watch",
        "run --bundle --watch, from saving a file to answering with it",
        2.0,
        lambda bench: bundles.watch(own_store(bench), bench.work / "bundle-watch"),
        peers=(),
    ),
    Case(
        "push-changed",
        "push of a 280 MB image to a binary host, one file changed",
        1.0,
        lambda bench: push_changed(bench.work / "sharing"),
        peers=(),
        runs=1,
    ),
    Case(
        "casd-100",
        "100 trivial packages on one buildbox-casd with two jobs",
        None,
        packages_on_a_server,
        PACKAGE_PEERS,
        times=1.5,
        runs=1,
    ),
    Case(
        "stack-podman-10",
        "ten containers of an image that podman has, until all run",
        None,
        lambda bench: ten_on_podman(bench.tool, bench.work / "stacks"),
        peers=("podman-compose",),
        runs=3,
        times=1.0,
    ),
    Case(
        "stack-lxd-10",
        "the same on LXD",
        None,
        lambda bench: ten_on_lxd(bench.tool, bench.work / "stacks"),
        peers=("lxc launch",),
        runs=3,
        times=1.2,
    ),
    Case(
        "stack-lxd-again",
        "the same again, nothing to do",
        1.0,
        lambda bench: ten_on_lxd_again(bench.tool, bench.work / "stacks"),
        peers=(),
        runs=3,
    ),
)
