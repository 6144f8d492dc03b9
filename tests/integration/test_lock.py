"""boxwright.lock: what was pinned comes out again next year, and nothing else is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import conftest
from tests.conftest import Program, remove_tree
from tests.integration.archives import OldFile, locked_files, locked_singles, snapshot_pages
from tests.integration.web import Page, Web, commit, serving

pytestmark = pytest.mark.integration

CONFIG = "mirrors:\n  debian: {0}/mirror\n  debian-snapshot: {0}\n"
NOWHERE = "mirrors:\n  debian: {0}/empty\n  debian-snapshot: ''\n"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path / "repositories") as server:
        yield server


@pytest.fixture
def another_store(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Programs with stores of their own, as on other machines."""
    homes: list[Path] = []

    def make(name: str) -> Program:
        homes.append(tmp_path / f"store-{name}")
        return Program(homes[-1])

    yield make
    for home in homes:
        remove_tree(home)


def next_year(directory: Path, web: Web, program: Program, section: str, name: str) -> list[OldFile]:
    """The archive moved on: a mirror has every third package, the archive of old versions has the others."""
    listed = locked_files(directory / "boxwright.lock", section, name, program.home / "blobs")
    for _, path in listed[::3]:
        web.pages[f"/mirror/{path.replace('~', '%7e').replace('+', '%2b')}"] = Page(b"")
    for file, path in listed[::3]:
        web.pages[f"/mirror/{path.replace('~', '%7e').replace('+', '%2b')}"] = Page(file.data)
    old = [file for number, (file, _) in enumerate(listed) if number % 3]
    web.pages.update(snapshot_pages(old))
    (directory / ".boxwright-config.yaml").write_text(CONFIG.format(web.url))
    return old


@pytest.mark.long
def test_a_recipe_has_the_same_base_next_year(
    boxwright: Program, another_store: Callable[[str], Program], context: Callable[..., Path], web: Web
) -> None:
    directory = context("FROM debian:bookworm\nCOPY f /f\n", {"f": "text"})
    boxwright("lock", directory, timeout=600)
    lock = json.loads((directory / "boxwright.lock").read_text())
    packages = lock["images"]["debian:bookworm"]["packages"]
    assert {"apt", "bash", "libc6"} <= {package[0] for package in packages}
    first = boxwright("build", directory, "-q").out
    old = next_year(directory, web, boxwright, "images", "debian:bookworm")

    later = another_store("later")
    assert later("build", directory, "-q", "--locked", timeout=600).out == first
    paths = [request.path for request in web.requests]
    assert not [path for path in paths if "/dists/" in path], "no index is asked"
    assert [path for path in paths if path.startswith("/mirror/pool/")]
    assert len([path for path in paths if path.startswith("/file/")]) == len(old)

    for place in [place for place in web.pages if place.startswith("/file/")][:1]:
        web.pages[place] = Page(b"something else")
    web.requests.clear()
    wrong = another_store("wrong")("build", directory, "--locked", status=5)
    assert "[source.fetch]" in wrong.err
    assert f"{old[0].name} {old[0].version}" in wrong.err
    assert f"{web.url}/mirror/" in wrong.err
    assert "none with sha256" in wrong.err


def newest_version(package: str) -> str:
    asked = ["apt-cache", "show", "--no-all-versions", package]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return next(line[9:] for line in shown.splitlines() if line.startswith("Version: "))


@pytest.mark.long
def test_a_toolchain_and_the_distributions_packages_are_the_same_next_year(
    boxwright: Program, another_store: Callable[[str], Program], tmp_path: Path, web: Web
) -> None:
    directory = tmp_path / "p"
    directory.mkdir()
    source, library = newest_version("hello"), newest_version("libargon2-1")
    (directory / "pkg.yaml").write_text(
        "name: p\nversion: 1\ntoolchain: {base: debian:bookworm, packages: [dpkg-dev, patch]}\n"
        f"sources: [{{debian: {{package: hello, version: {source}}}}}]\n"
        f"build-depends: [debian/libargon2-1={library}]\n"
        "phases: {install: 'mkdir -p $DESTDIR/usr/share; patch --version > $DESTDIR/usr/share/p;"
        " cp debian/rules $LIBDIR/libargon2.so.1 $DESTDIR/usr/share/'}\n"
    )
    boxwright("lock", directory, timeout=600)
    first = boxwright("build", directory, "-q").out
    lock = json.loads((directory / "boxwright.lock").read_text())
    assert list(lock["packages"].values()) == [f"sha256:{first.strip().removeprefix('sha256:')}"]
    next_year(directory, web, boxwright, "bases", "debian:bookworm dpkg-dev patch")
    web.pages.update(snapshot_pages(locked_singles(directory / "boxwright.lock", boxwright.home / "blobs")))
    later = another_store("later")
    assert later("build", directory, "-q", timeout=600).out == first
    paths = [request.path for request in web.requests]
    assert f"/mr/package/hello/{source}/srcfiles" in paths
    assert f"/mr/binary/libargon2-1/{quote(library, safe='')}/binfiles" in paths
    # What it was made of is here by digest now: the same again without a network.
    (directory / "pkg.yaml").write_text((directory / "pkg.yaml").read_text().replace("--version", "-v"))
    assert without_network(later, "build", directory, "-q", "--offline").returncode == 0


def without_network(program: Program, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--net", "--", conftest.PROGRAM, *words],
        env=program.whole_environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_locked_recipe_fetches_what_is_pinned_and_nothing_else(
    boxwright: Program, context: Callable[..., Path], web: Web, busybox_base: Path
) -> None:
    first = commit(web.repositories / "r.git", {"f": "one\n"})
    web.pages["/file"] = Page(os.urandom(8))
    recipe = f"FROM tar:{busybox_base}\nADD {web.url}/file /file\nADD {web.url}/git/r.git#main /r/\n"
    directory = context(recipe)
    missing = boxwright("build", directory, "--locked", status=2)
    assert "[lock.none]" in missing.err
    boxwright("lock", directory)
    lock = json.loads((directory / "boxwright.lock").read_text())
    assert lock["urls"] == {f"{web.url}/file": hashlib.sha256(web.pages["/file"].body).hexdigest()}
    assert lock["git"] == {f"{web.url}/git/r.git#main": first}
    locked = boxwright("build", directory, "-q", "--locked").out

    commit(web.repositories / "r.git", {"f": "two\n"})
    web.requests.clear()
    assert boxwright("build", directory, "-q", "--locked").out == locked
    assert web.requests == [], "what is pinned and here is not asked for"
    again = boxwright.at(boxwright.home / "lock-other")
    try:
        assert again("build", directory, "-q").out == locked, "the pinned commit, not the branch's newest"
        web.pages["/file"] = Page(b"changed")
        web.requests.clear()
        (directory / "boxwright.lock").rename(directory / "kept")
        assert again("build", directory, "-q").out != locked
        (directory / "kept").rename(directory / "boxwright.lock")
    finally:
        remove_tree(again.home)
    changed = boxwright.at(boxwright.home / "lock-third")
    try:
        assert "[fetch.checksum]" in changed("build", directory, status=5).err
    finally:
        remove_tree(changed.home)

    (directory / "Recipe").write_text(f"{recipe}ADD {web.url}/more /more\n")
    web.pages["/more"] = Page(b"more")
    web.requests.clear()
    assert "[lock.missing]" in boxwright("build", directory, "--locked", status=2).err
    (directory / "Recipe").write_text("FROM debian:trixie\n")
    assert "[lock.missing]" in boxwright("build", directory, "--locked", status=2).err
    (directory / "Recipe").write_text(f"FROM {web.url.removeprefix('http://')}/x:1\n")
    assert "[lock.missing]" in boxwright("build", directory, "--locked", status=2).err
    assert web.requests == [], "nothing is asked before that is clear"


@pytest.mark.engine("registry")
def test_a_tag_stays_what_was_locked(
    boxwright: Program, fresh_boxwright: Program, context: Callable[..., Path], busybox_base: Path
) -> None:
    name = f"127.0.0.1:5000/lock-{os.urandom(4).hex()}:latest"

    def publish(text: str) -> None:
        place = context(f"FROM tar:{busybox_base}\nRUN echo {text} > /text\n", name=f"published-{text}")
        boxwright("build", place, "-o", f"oci:{place}/image")
        copy = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{place}/image", f"docker://{name}"]
        subprocess.run(copy, check=True, capture_output=True)

    publish("one")
    directory = context(f"FROM {name}\nRUN cp /text /copy\n")
    boxwright("lock", directory)
    entry = json.loads((directory / "boxwright.lock").read_text())["images"][name]
    assert entry["source"] == "registry"
    first = boxwright("build", directory, "-q").out
    publish("two")
    assert fresh_boxwright("build", directory, "-q", "--locked", "--pull").out == first
    (directory / "boxwright.lock").unlink()
    assert fresh_boxwright("build", directory, "-q", "--pull").out != first


PACKAGE = """\
name: {name}
version: 1
sources: [{{url: '{url}', sha256: {sha256}, unpack: false, mirrors: {mirrors}}}]
toolchain: tar:{base}
phases: {{install: 'mkdir -p $DESTDIR/usr; cp f $DESTDIR/usr/f; {more}'}}
"""


@pytest.fixture
def package(tmp_path: Path, host_toolchain: Path) -> Callable[..., Path]:
    """A package of one file from a web server."""

    def make(url: str, data: bytes, mirrors: tuple[str, ...] = (), more: str = "true") -> Path:
        directory = tmp_path / "package"
        directory.mkdir(exist_ok=True)
        name = f"p{hashlib.sha256(data).hexdigest()[:8]}"
        sha256 = hashlib.sha256(data).hexdigest()
        text = PACKAGE.format(
            name=name, url=url, sha256=sha256, mirrors=json.dumps(mirrors), base=host_toolchain, more=more
        )
        (directory / "pkg.yaml").write_text(text)
        return directory

    return make


def test_a_mirror_that_fails_is_followed_by_the_next(
    fresh_boxwright: Program, package: Callable[..., Path], web: Web
) -> None:
    data = b"right\n"
    held = threading.Event()
    web.pages.update(
        {
            "/500/f": Page(b"no", 500),
            "/short/f": Page(data[:3], announced=6),
            "/long/f": Page(data, announced=60),
            "/stall/f": Page(data[:2], announced=6, wait=held),
            "/other/f": Page(b"wrong\n"),
        }
    )
    bad = tuple(f"{web.url}/{kind}/f" for kind in ("500", "short", "long", "stall", "other"))
    program = fresh_boxwright.with_environment(BOXWRIGHT_FETCH_TIMEOUT="1")
    directory = package(f"{web.url}/404/f", data, bad)
    try:
        failed = program("build", directory, status=5)
        assert "[source.checksum]" in failed.err
        for place in (f"{web.url}/404/f", *bad):
            assert place in failed.err, "the error names all that was tried"
        web.pages["/good/f"] = Page(data)
        program("build", package(f"{web.url}/404/f", data, (*bad, f"{web.url}/good/f")))
    finally:
        held.set()
    assert (
        "[usage.timeout]" in program.with_environment(BOXWRIGHT_FETCH_TIMEOUT="soon")("build", directory, status=2).err
    )


def test_offline_after_a_build(
    fresh_boxwright: Program, package: Callable[..., Path], web: Web, context: Callable[..., Path], busybox_base: Path
) -> None:
    web.pages["/f"] = Page(b"offline\n")
    commit(web.repositories / "r.git", {"f": "one\n"})
    directory = package(f"{web.url}/f", b"offline\n")
    recipe = context(f"FROM tar:{busybox_base}\nADD {web.url}/f /f\nADD {web.url}/git/r.git#main /r/\n")
    cold = fresh_boxwright("build", directory, "--offline", status=5)
    assert "[source.offline]" in cold.err
    assert "[source.offline]" in fresh_boxwright("build", recipe, "--offline", status=5).err
    assert "[source.offline]" in fresh_boxwright("build", context("FROM debian:bookworm\n"), "--offline", status=5).err
    recipe = context(f"FROM tar:{busybox_base}\nADD {web.url}/f /f\nADD {web.url}/git/r.git#main /r/\n")
    assert web.requests == []
    fresh_boxwright("build", directory)
    image = fresh_boxwright("build", recipe, "-q").out
    package(f"{web.url}/f", b"offline\n", more="echo changed > $DESTDIR/usr/g")
    built = without_network(fresh_boxwright, "build", directory, "--offline")
    assert built.returncode == 0, built.stderr
    assert "Defaulting to local build" in built.stderr
    again = without_network(fresh_boxwright, "build", recipe, "-q", "--offline")
    assert (again.returncode, again.stdout) == (0, image), again.stderr


def test_planning_fetches_no_package_of_the_distribution(fresh_boxwright: Program, tmp_path: Path) -> None:
    version = newest_version("libargon2-1")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/pkg.yaml").write_text(f"name: p\nversion: 1\nbuild-depends: [debian/libargon2-1={version}]\n")
    fresh_boxwright("build", tmp_path / "p", "--dry-run")
    blobs = fresh_boxwright.home / "blobs"
    assert not blobs.exists() or not list(blobs.iterdir())


@pytest.mark.long
def test_another_architectures_packages_are_others(fresh_boxwright: Program, tmp_path: Path) -> None:
    """What was looked up for one platform is not taken for another one."""
    version = newest_version("libargon2-1")
    (tmp_path / "pkg.yaml").write_text(f"name: p\nversion: 1\nbuild-depends: [debian/libargon2-1={version}]\n")
    fresh_boxwright("build", tmp_path, "--dry-run")
    fresh_boxwright("build", tmp_path, "--dry-run", "--platform", "linux/arm64")
    with sqlite3.connect(fresh_boxwright.home / "index.db") as index:
        known = dict(index.execute("SELECT name, value FROM pins").fetchall())
    name = f"debian-package libargon2-1={version}"
    found = {pin: value for pin, value in known.items() if pin.startswith(name)}
    assert len(found) == len(set(found.values())) == 2
    (arm,) = [value for pin, value in found.items() if pin.endswith(" linux/arm64")]
    assert known[f"pool {arm}"].endswith("_arm64.deb")


def test_the_line_to_add_for_a_checksum(fresh_boxwright: Program, tmp_path: Path, web: Web, busybox_base: Path) -> None:
    web.pages["/f"] = Page(b"data")
    (tmp_path / "pkg.yaml").write_text(
        f"name: p\nversion: 1\ntoolchain: tar:{busybox_base}\nsources:\n  - url: {web.url}/f\n"
        f"patches:\n  {web.url}/f: because\n"
    )
    missing = fresh_boxwright("build", tmp_path, status=2)
    assert "[package.no-checksum]" in missing.err
    assert "pkg.yaml:5:5" in missing.err
    assert f"add the line `sha256: {hashlib.sha256(b'data').hexdigest()}`" in missing.err


def test_a_damaged_lock_is_an_error_with_its_line(
    fresh_boxwright: Program, package: Callable[..., Path], web: Web
) -> None:
    web.pages["/f"] = Page(b"data")
    directory = package(f"{web.url}/f", b"data")
    fresh_boxwright("lock", directory)
    fresh_boxwright("build", directory)
    lock = directory / "boxwright.lock"
    text = lock.read_text()
    lock.write_text(text[: len(text) // 2])
    cut = fresh_boxwright("build", directory, status=2)
    assert "[lock.damaged]" in cut.err
    assert "boxwright.lock:" in cut.err
    lock.write_text(text.replace('"format": 1', '"format": 99'))
    assert "[lock.version]" in fresh_boxwright("build", directory, status=2).err
    (content,) = {base["content"] for base in json.loads(text)["bases"].values()}
    lock.write_text(text.replace(content, f"sha256:{'1' * 64}"))
    differs = fresh_boxwright("build", directory, status=5)
    assert "[lock.base-differs]" in differs.err


def test_the_base_of_a_container_is_locked(boxwright: Program, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    directory.mkdir()
    (directory / "f").write_text("text")
    definition = "- base: {0}\n- sync: {{src: f, dest: /f}}\n- image: {{type: oci}}\n"
    (directory / "container.yaml").write_text(definition.format("debian:bookworm"))
    boxwright("lock", directory, timeout=600)
    locked = json.loads((directory / "boxwright.lock").read_text())["images"]["debian:bookworm"]
    assert {package[0] for package in locked["packages"]} >= {"libc6", "bash"}
    boxwright("lock", directory)
    assert json.loads((directory / "boxwright.lock").read_text())["images"]["debian:bookworm"] == locked
    output = f"oci:{tmp_path}/out"
    first = boxwright("build", directory, "-q", "-o", output).out
    (directory / "boxwright.lock").rename(tmp_path / "kept")
    assert boxwright("build", directory, "-q", "-o", output).out == first, "pinned or not, it is the same image"
    (tmp_path / "kept").rename(directory / "boxwright.lock")
    (directory / "container.yaml").write_text(definition.format("debian:trixie"))
    assert "[lock.missing]" in boxwright("build", directory, "-o", output, status=2).err


def test_a_lock_holds_in_every_checkout(
    fresh_boxwright: Program, tmp_path: Path, host_toolchain: Path, another_store: Callable[[str], Program]
) -> None:
    """A toolchain in a file lies beside the definition that names it, and a lock doesn't say where that is."""
    definition = tmp_path / "one/p/pkg.yaml"
    definition.parent.mkdir(parents=True)
    text = "name: p\nversion: 1\ntoolchain: tar:../toolchain.tar\nphases: {install: mkdir -p $DESTDIR/usr}\n"
    definition.write_text(text)
    os.link(host_toolchain, tmp_path / "one/toolchain.tar")
    fresh_boxwright("lock", "one/p", cwd=tmp_path)
    lock = (definition.parent / "boxwright.lock").read_text()
    assert list(json.loads(lock)["bases"]) == [
        f"tar:toolchain.tar@{hashlib.sha256(host_toolchain.read_bytes()).hexdigest()}"
    ]
    assert str(tmp_path) not in lock
    (tmp_path / "one").rename(tmp_path / "two")
    other = another_store("other")
    built = other("build", ".", "--locked", "-q", cwd=tmp_path / "two/p").out.strip()
    assert list(json.loads(lock)["packages"].values()) == [built]
