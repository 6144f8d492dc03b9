"""Locked packages of the distribution are published by digest: who builds later has them when no mirror has."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.app.opening import open_store
from boxwright.app.sourcefiles import image_sources
from boxwright.store.images import Images
from boxwright.store.packages import Packages
from tests.conftest import Program
from tests.integration.binhosts import World
from tests.integration.web import Page, Web, serving

pytestmark = pytest.mark.integration

CONTAINER = """\
- package: {type: embedded, path: ./pkgs/app}
- package: {type: debian, name: tiny, version: "1.0"}
"""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path / "git") as server:
        yield server


def make_deb(place: Path, name: str) -> bytes:
    """A package ``NAME=1.0`` with one file."""
    root = place / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: n <n@e>\nDescription: d\n"
    )
    (root / "usr/share").mkdir(parents=True)
    (root / f"usr/share/{name}").write_text(f"{name}\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, place], check=True, capture_output=True)
    return (place / f"{name}_1.0_amd64.deb").read_bytes()


def blobs(machine: Program) -> set[str]:
    return {path.name for path in (machine.home / "blobs").iterdir()}


def test_packages_of_the_distribution_are_published_fetched_and_kept(world: World, web: Web) -> None:
    debs = {name: make_deb(world.path / "debs", name) for name in ("tiny", "small")}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in debs.items()}
    places = {name: f"pool/{name}_1.0_amd64.deb" for name in debs}
    web.pages.update({f"/mirror/{places[name]}": Page(data) for name, data in debs.items()})
    (world.tree / "container.yaml").write_text(CONTAINER)
    app = world.tree / "pkgs/app/pkg.yaml"
    app.write_text(app.read_text().replace("depends:", "build-depends: [debian/small=1.0]\ndepends:"))
    pins = {f"{name}=1.0": f"sha256:{digests[name]} {places[name]}" for name in debs}
    lock = {"format": 1, "platform": "linux/amd64", "debian-packages": pins}
    (world.tree / "boxwright.lock").write_text(json.dumps(lock))
    mirrors = f"mirrors: {{debian: '{web.url}/mirror', debian-snapshot: ''}}\n"

    def machine(name: str) -> Program:
        made = world.machine(name)
        with (world.tree / ".boxwright-config.yaml").open("a") as file:
            file.write(mirrors)
        return made

    first = machine("first")
    first("lock", world.tree)
    first("build", world.tree, "-t", "c", "--push")
    assert set(digests.values()) <= blobs(first)
    world.trust(first)

    # No mirror has them any more, and everything is to be built again.
    web.pages.clear()
    app.write_text(app.read_text().replace("install: ", "install: cp /usr/share/small $DESTDIR/; "))
    second = machine("second")
    alone = second("build", world.tree, "-t", "c", "--offline")
    assert "Defaulting to local build" in alone.err
    assert set(digests.values()) <= blobs(second)

    # They stay as long as an image is here that holds them, and are listed with it.
    with open_store({"BOXWRIGHT_HOME": str(second.home)}) as store:
        image = Images(store).find("c:latest")
        assert image is not None
        listed = {file.digest.removeprefix("sha256:") for file in image_sources(image, store) if file.path}
        assert set(digests.values()) <= listed
        Packages(store).prune(2**40, everything=True)
        assert set(digests.values()) <= blobs(second)
        with store.index.writing() as db:
            db.execute("DELETE FROM snapshots WHERE key IN (SELECT key FROM packages)")  # only the image is left
        Packages(store).prune(2**40, everything=True)
    assert digests["tiny"] in blobs(second)
    assert digests["small"] not in blobs(second)

    # The repository's own collection leaves them with the image, and finds nothing wrong.
    world.machine("verifier")("repo", "gc", "here", "--older-than", "0", "--grace", "0", cwd=world.tree)
    assert digests["tiny"] in {path.name for path in world.repository.glob("blobs/*/*")}
    world.verify()


@pytest.mark.long
def test_a_locked_base_is_made_of_what_was_published(world: World, web: Web) -> None:
    """The mirrors and the archive of old versions have nothing: the base's packages come from the repository."""
    definition = "- base: debian:bookworm\n- sync: {{src: {}, dest: /f}}\n"
    for name in ("one", "two"):
        (world.tree / name).write_text(name)
    (world.tree / "container.yaml").write_text(definition.format("one"))
    first = world.machine("first")
    first("lock", world.tree, timeout=600)
    first("build", world.tree, "-t", "c", "--push", timeout=600)
    world.trust(first)
    second = world.machine("second")
    with (world.tree / ".boxwright-config.yaml").open("a") as file:
        file.write(f"mirrors: {{debian: '{web.url}', debian-snapshot: '{web.url}'}}\n")
    (world.tree / "container.yaml").write_text(definition.format("two"))
    second("build", world.tree, "-t", "c", timeout=600)
    lock = (world.tree / "boxwright.lock").read_text()
    listed = {item[3] for item in json.loads(lock)["images"]["debian:bookworm"]["packages"]}
    assert listed <= blobs(second)
    second("lock", world.tree)
    assert (world.tree / "boxwright.lock").read_text() == lock
    assert web.requests == []
    world.verify()
