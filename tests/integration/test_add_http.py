"""ADD of files from web servers."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.web import Page, Web, serving

pytestmark = pytest.mark.integration

Context = Callable[..., Path]
MODIFIED = "Sat, 03 Feb 2001 04:05:06 GMT"
MODIFIED_SECONDS = 981173106


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path) as server:
        yield server


def built(program: Program, place: Path, out: Path, *options: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    program("build", place, "-q", "-o", f"tar:{out}", *options)
    with tarfile.open(out) as tar:
        return {
            member.name.removeprefix("./"): (member, (file.read() if (file := tar.extractfile(member)) else b""))
            for member in tar
        }


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_file_has_its_name_mode_owner_and_time(
    boxwright: Program, context: Context, web: Web, tmp_path: Path
) -> None:
    web.pages["/a/file%20one?x=1"] = Page(b"one", headers={"Last-Modified": MODIFIED})
    web.pages["/bare"] = Page(b"two")
    place = context(
        "FROM scratch\n"
        f'ADD ["{web.url}/a/file%20one?x=1", "/d/"]\n'
        f"ADD --chown=1:2 --chmod=u=rw,g=r {web.url}/a/file%20one?x=1 /other\n"
        f"ADD {web.url}/bare /\n"
    )
    found = built(boxwright, place, tmp_path / "o.tar", "--build-arg", "SOURCE_DATE_EPOCH=1000000000")
    first, content = found["d/file one"]
    assert (content, first.mode, first.uid, first.mtime) == (b"one", 0o600, 0, MODIFIED_SECONDS)
    other = found["other"][0]
    assert (other.mode, other.uid, other.gid) == (0o640, 1, 2)
    assert found["bare"][0].mtime == 0
    early = built(boxwright, place, tmp_path / "p.tar", "--build-arg", "SOURCE_DATE_EPOCH=5", "--no-cache")
    assert early["d/file one"][0].mtime == 5
    assert len(web.asked("/bare")) == 2


def test_an_unchanged_file_is_not_sent_again(fresh_boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/etag"] = Page(b"one", headers={"ETag": '"1"'})
    web.pages["/date"] = Page(b"one", headers={"Last-Modified": MODIFIED})
    web.pages["/none"] = Page(b"one")
    place = context("FROM scratch\n" + "".join(f"ADD {web.url}/{name} /\n" for name in ("etag", "date", "none")))
    first = fresh_boxwright("build", place, "-q").out
    assert fresh_boxwright("build", place, "-q").out == first
    assert (web.asked("/etag"), web.asked("/date"), web.asked("/none")) == ([200, 304], [200, 304], [200, 200])
    assert "started" not in fresh_boxwright("build", place, "--progress", "json").out


def test_a_changed_file_is_added_again(boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/x"] = Page(b"one", headers={"ETag": '"1"'})
    place = context(f"FROM scratch\nADD {web.url}/x /\n")
    first = boxwright("build", place, "-q").out
    web.pages["/x"] = Page(b"one", headers={"ETag": '"2"'})
    assert [line.split()[0] for line in boxwright("build", place, "--dry-run").out.splitlines()] == ["CACHED"] * 3
    web.pages["/x"] = Page(b"two", headers={"ETag": '"3"'})
    assert boxwright("build", place, "-q").out != first


def test_the_store_without_a_file_fetches_it_again(fresh_boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/x"] = Page(b"one", headers={"ETag": '"1"'})
    place = context(f"FROM scratch\nADD {web.url}/x /\n")
    first = fresh_boxwright("build", place, "-q").out
    fresh_boxwright("gc", "--all")
    assert fresh_boxwright("build", place, "-q").out == first
    assert web.asked("/x") == [200, 200]


def test_a_pinned_file_needs_no_server_again(fresh_boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/x"] = Page(b"one")
    digest = "sha256:" + hashlib.sha256(b"one").hexdigest()
    place = context(f"FROM scratch\nADD --checksum={digest} {web.url}/x /a\n")
    first = fresh_boxwright("build", place, "-q").out
    web.pages.clear()
    assert fresh_boxwright("build", place, "-q").out == first
    more = context(f"FROM scratch\nADD --checksum={digest} http://127.0.0.1:9/y /b\n", name="more")
    fresh_boxwright("build", more, "-q")
    assert web.asked("/x") == [200]


def test_another_content_than_was_pinned(boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/x"] = Page(b"evil")
    digest = "sha256:" + hashlib.sha256(b"what was meant").hexdigest()
    place = context(f"FROM scratch\nADD --checksum={digest} {web.url}/x /a\n")
    result = boxwright("build", place, status=5)
    assert "[fetch.checksum]" in result.err
    assert "Recipe:2" in result.err


def test_redirects_are_followed_to_web_servers_only(boxwright: Program, context: Context, web: Web) -> None:
    web.pages["/a"] = Page(status=302, headers={"Location": "/b"})
    web.pages["/b"] = Page(b"found")
    boxwright("build", context(f"FROM scratch\nADD {web.url}/a /\n"), "-q")
    web.pages["/file"] = Page(status=302, headers={"Location": "file:///etc/passwd"})
    web.pages["/ftp"] = Page(status=302, headers={"Location": "ftp://127.0.0.1/x"})
    web.pages["/loop"] = Page(status=302, headers={"Location": "/loop"})
    for name, code in (("file", "fetch."), ("ftp", "fetch.redirect"), ("loop", "fetch.")):
        result = boxwright("build", context(f"FROM scratch\nADD {web.url}/{name} /\n", name=name), status=5)
        assert f"[{code}" in result.err
        assert "Traceback" not in result.err


def test_a_password_goes_to_its_server_only(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        other.pages["/b"] = Page(b"found")
        web.pages["/a"] = Page(status=302, headers={"Location": f"{other.url}/b"})
        address = web.url.replace("://", "://me:hush%21@")
        result = boxwright("build", context(f"FROM scratch\nADD {address}/a /\n"))
        assert web.requests[0].headers["Authorization"] == "Basic bWU6aHVzaCE="
        assert "Authorization" not in other.requests[0].headers
    assert "hush" not in result.out + result.err
    web.pages.clear()
    missing = boxwright("build", context(f"FROM scratch\nADD {address}/c /\n", name="missing"), status=5)
    assert "hush" not in missing.err.replace(f"ADD {address}", "")


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (Page(b"gone", 404), "fetch.status"),
        (Page(b"broken", 500), "fetch.status"),
        (Page(b"half", announced=10), "fetch.broken"),
        (Page(b"x", headers={"Transfer-Encoding": "chunked"}), "fetch."),
    ],
    ids=["404", "500", "cut", "not chunked"],
)
def test_failures_are_said_clearly(boxwright: Program, context: Context, web: Web, page: Page, code: str) -> None:
    web.pages["/x"] = page
    result = boxwright("build", context(f"FROM scratch\nADD {web.url}/x /\n"), status=5)
    assert f"[{code}" in result.err
    assert "Recipe:2" in result.err
    assert "Traceback" not in result.err


def test_no_server(boxwright: Program, context: Context) -> None:
    place = context("FROM scratch\nADD http://127.0.0.1:9/x http://127.0.0.1:9/y /\n")
    assert "[fetch.unreachable]" in boxwright("build", place, status=5).err


def test_an_interrupted_fetch_ends_at_once(boxwright: Program, context: Context, web: Web) -> None:
    hanging = threading.Event()
    for name in ("x", "y"):
        web.pages[f"/{name}"] = Page(b"a", announced=10, wait=hanging)
    process = boxwright.start("build", str(context(f"FROM scratch\nADD {web.url}/x {web.url}/y /\n")))
    try:
        while len(web.requests) < 2:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        hanging.set()
        process.kill()
        process.communicate()


def test_archives_are_unpacked_where_that_is_asked_for(
    boxwright: Program, context: Context, web: Web, tmp_path: Path
) -> None:
    data = archive(**{"in/a": "A"})
    web.pages["/x.tgz"] = Page(data)
    place = context(
        f"FROM scratch\nADD {web.url}/x.tgz /kept/\nADD --unpack=true {web.url}/x.tgz /open/\n"
        "ADD y.tgz /local/\nADD --unpack=false y.tgz /whole/\n",
        {"y.tgz": data},
    )
    found = built(boxwright, place, tmp_path / "o.tar")
    assert found["kept/x.tgz"][1] == data
    assert found["open/in/a"][1] == b"A"
    assert found["local/in/a"][1] == b"A"
    assert found["whole/y.tgz"][1] == data
    assert "open/x.tgz" not in found
