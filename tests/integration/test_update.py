"""`boxwright update`: newer upstream versions are reported, the lock is moved, definitions stay."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.web import Page, Web, commit, git, serving

pytestmark = pytest.mark.integration

LISTING = "".join(f"<a href='{name}.tar.gz'>{name}</a>" for name in ("x-1.9", "x-1.10", "x-1.11-rc1", "y-3"))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path / "repositories") as server:
        yield server


def package(tmp_path: Path, base: Path, text: str, name: str = "x") -> Path:
    directory = tmp_path / name
    directory.mkdir(exist_ok=True)
    (directory / "pkg.yaml").write_text(f"name: {name}\nversion: 1.9\ntoolchain: tar:{base}\n{text}")
    return directory


def updates(program: Program, *words: str | Path, status: int = 0) -> dict[str, dict[str, object]]:
    """The report by name."""
    found = json.loads(program("update", "--json", *words, status=status).out)
    return {item["name"]: item for item in found["upstream"]} | {"lock": found["lock"]}


def test_upstream_listings(boxwright: Program, tmp_path: Path, web: Web, busybox_base: Path) -> None:
    """The directory above what has the version in its name, a page that is named, tags of a repository."""
    data = b"source"
    sha256 = hashlib.sha256(data).hexdigest()
    web.pages["/x/x-1.9.tar.gz"] = web.pages["/y/1.9/src.tar.gz"] = Page(data)
    web.pages["/x/"] = Page(LISTING.encode())
    web.pages["/y/"] = Page(b"<a href='1.8/'>1.8/</a><a href='1.9/'>1.9/</a><a href='/y/'>up</a>")
    web.pages["/news"] = Page(b"The newest is release 2.0.1, before it came release 1.9.")
    repository = web.repositories / "g.git"
    first = commit(repository, {"f": "one\n"})
    for tag in ("v1.9", "v1.12", "v2.0-beta1", "unrelated"):
        git(repository, "tag", tag)
    x = package(tmp_path, busybox_base, f"sources: [{{url: '{web.url}/x/x-{{version}}.tar.gz', sha256: {sha256}}}]\n")
    found = updates(boxwright, x)["x"]
    assert (found["newest"], found["newer"], found["place"]) == ("1.10", True, f"{web.url}/x/")
    assert found["file"] == str(x / "pkg.yaml")
    line = boxwright("update", x).out
    assert line.startswith(f"x 1.9 -> 1.10  {x}/pkg.yaml")
    assert "1.9" in (x / "pkg.yaml").read_text(), "what a definition says stays"

    more = f"depends: [../x/pkg.yaml]\nsources: [{{url: '{web.url}/y/{{version}}/src.tar.gz', sha256: {sha256}}}]\n"
    y = package(tmp_path, busybox_base, more, "y")
    both = updates(boxwright, y)
    assert (both["y"]["newest"], both["y"]["newer"]) == ("1.9", False)
    assert both["x"]["newest"] == "1.10"
    package(tmp_path, busybox_base, f"{more}watch: {{url: '{web.url}/news', pattern: 'release {{version}}'}}\n", "y")
    assert updates(boxwright, y)["y"]["newest"] == "2.0.1"

    g = package(tmp_path, busybox_base, f"sources: [{{git: '{web.url}/git/g.git', commit: {first}}}]\n", "g")
    assert updates(boxwright, g)["g"]["newest"] == "1.12"

    web.pages["/x/"] = Page(b"no", 500)
    failed = updates(boxwright, x, status=5)["x"]
    assert (failed["newest"], failed["newer"]) == ("", False)
    assert "500" in str(failed["error"])
    package(tmp_path, busybox_base, "watch: {url: 'http://127.0.0.1/', pattern: '('}\n")
    assert "no regular expression" in boxwright("update", x, status=2).err


def test_the_lock_is_moved(boxwright: Program, tmp_path: Path, web: Web, busybox_base: Path) -> None:
    web.pages["/p.patch"] = Page(b"--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+one\n")
    directory = package(tmp_path, busybox_base, f"patches: {{'{web.url}/p.patch': because}}\n")
    assert updates(boxwright, directory)["lock"] is None
    boxwright("lock", directory)
    before = (directory / "boxwright.lock").read_text()
    assert "nothing moved" in boxwright("update", directory).out
    web.pages["/p.patch"] = Page(b"--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+two\n")
    boxwright("lock", directory)
    assert (directory / "boxwright.lock").read_text() == before
    checked = updates(boxwright, directory, "--check")["lock"]
    assert checked["written"] is False
    names = {item["name"]: (item["old"], item["new"]) for item in checked["changes"]}  # type: ignore[attr-defined]
    new = hashlib.sha256(web.pages["/p.patch"].body).hexdigest()
    assert names[f"{web.url}/p.patch"][1] == new
    assert (directory / "boxwright.lock").read_text() == before
    assert updates(boxwright, directory)["lock"]["written"] is True
    assert json.loads((directory / "boxwright.lock").read_text())["urls"] == {f"{web.url}/p.patch": new}
    (directory / "boxwright.lock").write_text(before)
    boxwright("lock", directory, "--pull")
    assert json.loads((directory / "boxwright.lock").read_text())["urls"] == {f"{web.url}/p.patch": new}


def test_a_recipes_lock_is_moved(boxwright: Program, tmp_path: Path, web: Web, busybox_base: Path) -> None:
    repository = web.repositories / "r.git"
    commit(repository, {"f": os.urandom(4).hex()})
    (tmp_path / "c").mkdir()
    (tmp_path / "c/Recipe").write_text(f"FROM tar:{busybox_base}\nADD {web.url}/git/r.git#main /r/\n")
    boxwright("lock", tmp_path / "c")
    before = (tmp_path / "c/boxwright.lock").read_text()
    second = commit(repository, {"f": "two\n"})
    boxwright("lock", tmp_path / "c")
    assert (tmp_path / "c/boxwright.lock").read_text() == before
    moved = boxwright("update", tmp_path / "c").out
    assert "lock: " in moved
    assert json.loads((tmp_path / "c/boxwright.lock").read_text())["git"] == {f"{web.url}/git/r.git#main": second}


def test_versions_of_the_distribution(boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    """By its signed lists: what is the newest, and what a definition says."""
    directory = package(tmp_path, busybox_base, "sources: [{debian: {package: hello, version: 0.9}}]\n")
    digest = f"sha256:{'1' * 64}"
    pins = {"hello=0.9": [["hello_0.9.dsc", digest], ["hello_0.9.tar.gz", digest]]}
    (directory / "boxwright.lock").write_text(json.dumps({"format": 1, "debian-sources": pins}))
    found = updates(boxwright, directory, "--check")["hello"]
    listed = subprocess.run(["apt-cache", "madison", "hello"], capture_output=True, text=True, check=True).stdout
    versions = {line.split("|")[1].strip() for line in listed.splitlines()}
    assert (found["kind"], found["current"], found["newer"]) == ("debian-source", "0.9", True)
    assert found["newest"] in versions
    directory = package(
        tmp_path, busybox_base, f"sources: [{{debian: {{package: hello, version: {found['newest']}}}}}]\n", "y"
    )
    again = updates(boxwright, directory)["hello"]
    assert (again["newest"], again["newer"]) == (found["newest"], False)


@pytest.mark.parametrize("lock", ["", '{"format": 1,', "[" * 50_000, '{"format": 9}'])
def test_a_damaged_lock_is_said_to_be(boxwright: Program, tmp_path: Path, busybox_base: Path, lock: str) -> None:
    directory = package(tmp_path, busybox_base, "")
    (directory / "boxwright.lock").write_text(lock)
    said = boxwright("update", directory, status=2).err
    assert "[lock." in said
    assert "boxwright.lock:1" in said


@pytest.mark.parametrize("words", [("build", "--dry-run"), ("lock",), ("update",)])
def test_another_platform_is_refused(
    boxwright: Program, tmp_path: Path, busybox_base: Path, words: tuple[str, ...]
) -> None:
    directory = package(tmp_path, busybox_base, "")
    assert "[usage.platform]" in boxwright(*words, directory, "--platform", "foo", status=2).err
