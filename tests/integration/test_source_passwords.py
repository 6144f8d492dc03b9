"""Passwords in the addresses of sources are used, and told to nobody."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.conftest import Program
from tests.integration.binhosts import World
from tests.integration.web import Page, Web, commit, serving

pytestmark = pytest.mark.integration

USER, PASSWORD = "hidden-user", "hidden-word"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path / "git") as server:
        yield server


def everything(directory: Path) -> Iterator[bytes]:
    """The bytes of each file below, unpacked where they are compressed."""
    for path in directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield data
            if data[:4] == b"\x28\xb5\x2f\xfd":
                with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                    yield reader.read()


def records(machine: Program) -> str:
    with sqlite3.connect(machine.home / "index.db") as index:
        return str(index.execute("SELECT * FROM packages").fetchall())


def test_passwords_in_addresses_stay_here(world: World, web: Web) -> None:
    first = commit(web.repositories / "r.git", {"f": "one\n"})
    web.pages["/data"] = web.pages["/p.patch"] = Page(b"a source\n")
    secret = web.url.replace("://", f"://{USER}:{PASSWORD}@")
    definition = world.tree / "pkgs/lib/pkg.yaml"
    plain = definition.read_text()
    sources = f"{{url: {secret}/data, unpack: false}}, {{git: {secret}/git/r.git, commit: {first}, into: r}}"
    definition.write_text(plain.replace("{local: src}", sources))
    (world.tree / "container.yaml").write_text("- package: {type: embedded, path: ./pkgs/lib}\n")
    machine = world.machine("first")
    said = [machine("build", world.tree, status=2)]
    assert "[package.no-checksum]" in said[0].err
    assert f"{web.url.replace('://', '://***@')}/data has no sha256" in said[0].err

    said.append(machine("lock", world.tree))
    lock = (world.tree / "boxwright.lock").read_text()
    assert list(json.loads(lock)["urls"]) == [f"{web.url}/data"]
    assert json.loads(lock)["git"] == {f"{web.url}/git/r.git": first}
    said.append(
        machine("build", world.tree, "--push", "-t", "c", "--progress", "plain", "-o", f"oci:{world.path}/image")
    )
    given = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
    assert {request.headers.get("Authorization") for request in web.requests if request.path == "/data"} == {given}
    said += [machine("sbom", "c"), machine("list", "c", "--json"), machine("update", world.tree, "--check", "--json")]
    assert f"{web.url}/data" in said[-2].out

    # What goes wrong is said without them too.
    web.pages["/data"] = Page(b"another source\n")
    stranger = world.machine("stranger")
    said.append(stranger("build", world.tree / "pkgs/lib", "--offline", status=None))
    (world.tree / "pkgs/lib/boxwright.lock").write_text(lock)
    said.append(stranger("build", world.tree / "pkgs/lib", "--progress", "plain", status=5))
    assert "[source.checksum]" in said[-1].err
    web.pages.clear()
    said.append(stranger("build", world.tree / "pkgs/lib", status=5))
    definition.write_text(plain.replace("{local: src}", f"{{git: {secret}/git/none.git, commit: {first}}}"))
    said.append(stranger("build", world.tree / "pkgs/lib", status=5))
    definition.write_text(plain.replace("{local: src}", f"{{git: {secret}/git/none.git}}"))
    said.append(stranger("build", world.tree / "pkgs/lib", status=2))

    told = [it.out + it.err for it in said] + [lock, records(machine), records(stranger)]
    for text in told:
        assert PASSWORD not in text
        assert USER not in text
    for directory in (world.repository, world.path / "image"):
        assert not [data for data in everything(directory) if PASSWORD.encode() in data or USER.encode() in data]
