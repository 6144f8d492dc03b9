"""Rows about manifests: twenty steps here, and what a step costs in a build container of LXD on a pool of btrfs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tools import ROOT, CommandFailedError, run
from boxwright.engines.building.choose import open_engine
from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError

STEPS = 20
POOL = "boxwright-bench"
POOL_BYTES = 4 << 30


def cached(home: Path, work: Path) -> float:
    """Twenty steps, all of them cached: seconds of the whole process."""
    place = _manifest(work, "debian:bookworm", STEPS)
    _build(home, place)
    return _build(home, place)


def uncached(home: Path, work: Path) -> float:
    """Twenty steps, of which none is cached, on a base that is at hand."""
    return _build(home, _manifest(work, "debian:bookworm", STEPS))


def lxd_step(home: Path, work: Path) -> float:
    """What one of twenty steps takes more, where everything else is the same: seconds."""
    work.mkdir(exist_ok=True)
    base = _base(work)
    with _pool():
        environment = {"BOXWRIGHT_LXD_POOL": POOL}
        _build(home, _manifest(work, base, 1), "--engine", "lxd", **environment)  # LXD has the base then
        one = _build(home, _manifest(work, base, 1), "--engine", "lxd", **environment)
        many = _build(home, _manifest(work, base, 1 + STEPS), "--engine", "lxd", **environment)
    return (many - one) / STEPS


def _manifest(work: Path, base: str, steps: int) -> Path:
    place = work / f"manifest-{steps}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    salt = os.urandom(8).hex()
    lines = [f"  - echo {number} {salt} >/f{number}" for number in range(steps)]
    text = "\n".join((f"image: {base}", "install:", *lines, "artifact: bench/manifest", ""))
    (place / "manifest.yaml").write_text(text)
    return place


def _build(home: Path, place: Path, *words: str, **environment: str) -> float:
    command: list[str | Path] = [ROOT / "boxwright", "build", place, "-q", *words]
    return run(command, {"BOXWRIGHT_HOME": str(home), **environment}).seconds


def _base(work: Path) -> str:
    """One static program: what LXD does with a large tree is not what a step costs."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "etc", "tmp", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", work / "base.tar", "."])
    return f"tar:{work / 'base.tar'}"


@contextmanager
def _pool() -> Iterator[None]:
    """A pool of btrfs in a file of LXD's; it goes with all that builds left there."""
    try:
        with LxdClient(find_endpoint("", os.environ)) as client:
            pool = {"name": POOL, "driver": "btrfs", "config": {"size": str(POOL_BYTES)}}
            client.run("POST", "/storage-pools", pool)
            engine = open_engine("lxd", "", os.environ, "")
            before = engine.states()
            try:
                yield
            finally:
                engine.forget(engine.states() - before)
                engine.close()
                client.run("DELETE", f"/storage-pools/{POOL}")
    except LxdError as error:
        raise CommandFailedError(str(error)) from error
