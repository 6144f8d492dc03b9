"""Sources stay as long as what was made of them is here, and one can ask for them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from boxwright.app.opening import open_store
from boxwright.app.sourcefiles import image_sources, package_sources
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from tests.conftest import Program

pytestmark = pytest.mark.integration


def test_sources_are_listed_and_stay(fresh_boxwright: Program, tmp_path: Path, host_toolchain: Path) -> None:
    directory = tmp_path / "c"
    (directory / "p").mkdir(parents=True)
    (directory / "p/f").write_text("the source\n")
    (directory / "p/pkg.yaml").write_text(
        f"name: p\nversion: 1\ntoolchain: tar:{host_toolchain}\nsources: [{{local: f, unpack: false}}]\n"
        "phases: {install: 'mkdir -p $DESTDIR/usr; cp f $DESTDIR/usr/'}\n"
    )
    (directory / "container.yaml").write_text("- package: {type: embedded, path: ./p}\n")
    fresh_boxwright("build", directory, "-t", "c")
    digest = f"sha256:{hashlib.sha256((directory / 'p/f').read_bytes()).hexdigest()}"
    blob = fresh_boxwright.home / "blobs" / digest.removeprefix("sha256:")
    assert blob.exists()
    stray = fresh_boxwright.home / "blobs" / ("1" * 64)
    stray.write_text("a source of nothing")
    for path in (blob, stray):
        os.utime(path, (0, 0))
    with open_store({"BOXWRIGHT_HOME": str(fresh_boxwright.home)}) as store:
        record = Packages(store).find("p-1")
        (found,) = package_sources(record, store)
        assert (found.digest, found.name, found.size, found.path) == (digest, "f", 11, str(blob))
        image = Images(store).find("c:latest")
        assert image is not None
        assert image_sources(image, store) == (found,)
        assert Packages(store).prune(2**40, everything=False) == 1
    assert blob.exists()
    assert not stray.exists()
