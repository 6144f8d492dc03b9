"""Packages: built from source in a sandbox, found again, tested, locked."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import conftest
from tests.conftest import Program
from tests.integration.conftest import Tree

pytestmark = pytest.mark.integration

LIBRARY = {
    "pkg.yaml": """
name: libhi
version: 1.0
sources: [{local: src}]
build-system: make
phases:
  install: |
    mkdir -p $DESTDIR$LIBDIR $DESTDIR$PREFIX/include $DESTDIR$PREFIX/share/doc/libhi
    cp libhi.so.1 $DESTDIR$LIBDIR/
    ln -s libhi.so.1 $DESTDIR$LIBDIR/libhi.so
    cp hi.h $DESTDIR$PREFIX/include/
    echo documentation > $DESTDIR$PREFIX/share/doc/libhi/README
""",
    "src/hi.c": '#include <stdio.h>\nvoid hi(void) { puts("hi from the library"); }\n',
    "src/hi.h": "void hi(void);\n",
    "src/Makefile": "all:\n\tcc $(CFLAGS) -shared -fPIC -Wl,-soname,libhi.so.1 -o libhi.so.1 hi.c\n",
}
PROGRAM = {
    "pkg.yaml": """
name: hi
version: 2.0
license: MIT
author: Somebody <s@example.org>
sources: [{local: src}]
depends: [demo/libhi]
build-system: make
phases:
  install: mkdir -p $DESTDIR/usr/bin && cp hi $DESTDIR/usr/bin
test:
  - 'test "$(hi)" = "hi from the library"'
  - [hi]
""",
    "src/main.c": "#include <hi.h>\nint main(void) { hi(); return 0; }\n",
    "src/Makefile": "all:\n\tcc $(CFLAGS) -o hi main.c -lhi\n",
}


def record(program: Program, name: str) -> dict[str, object]:
    """What the store says of a package, read as anybody could."""
    import sqlite3

    with sqlite3.connect(program.home / "index.db") as db:
        row = db.execute("SELECT record FROM packages WHERE name=? ORDER BY used DESC LIMIT 1", (name,)).fetchone()
    found: dict[str, object] = json.loads(row[0])
    return found


def archive(program: Program, name: str) -> bytes:
    digest = str(record(program, name)["archive"]).removeprefix("sha256:")
    data = subprocess.run(
        ["zstd", "-dc", program.home / "blobs" / f"{digest}.tar.zst"], capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(data).hexdigest() == digest
    return data


def test_a_program_with_its_library(pkg: Program, tree: Tree) -> None:
    directory = tree(libhi=LIBRARY, hi=PROGRAM)
    result = pkg("build", directory / "hi")
    lines = result.err.splitlines()
    assert "Processing package from" in result.err
    assert any(line.startswith("    HASH: ") for line in lines)
    assert "    Can't find HASH in any known location..." in lines
    assert any(line.startswith("    Defaulting to local build...") and line.endswith("[OK]") for line in lines)
    assert any(line.startswith("    Running its tests...") and line.endswith("[OK]") for line in lines)

    again = pkg("build", directory / "hi")
    assert "Defaulting" not in again.err
    assert "Found HASH" in again.err
    assert again.out.split()[1] == result.out.split()[1]

    found = record(pkg, "demo/hi-2.0")
    assert found["license"] == "MIT"
    assert found["runtime"] == ["demo/libhi-1.0"]
    needs = found["needs"]
    assert isinstance(needs, dict)
    assert needs["libhi.so.1"]["by"] == ["usr/bin/hi"]
    assert "GLIBC_2.34" in needs["libc.so.6"]["versions"]
    library = record(pkg, "demo/libhi-1.0")
    assert isinstance(library["provides"], dict)
    assert isinstance(library["files"], list)
    assert list(library["provides"]) == ["libhi.so.1"]
    parts = {item["path"]: item.get("part", "") for item in library["files"]}
    assert parts["usr/include/hi.h"] == "dev"
    assert parts["usr/share/doc/libhi/README"] == "doc"
    assert next(part for path, part in parts.items() if path.endswith("libhi.so")) == "dev"
    assert next(part for path, part in parts.items() if path.endswith("libhi.so.1")) == ""
    assert any(part == "dbg" for part in parts.values())
    listed = subprocess.run(["tar", "-tvf", "-"], input=archive(pkg, "demo/hi-2.0"), capture_output=True, check=True)
    assert b"root/root" in listed.stdout or b"0/0" in listed.stdout
    assert b"1980-01-01" in listed.stdout


def test_an_undeclared_dependency_is_not_there(pkg: Program, tree: Tree) -> None:
    lonely = {**PROGRAM, "pkg.yaml": PROGRAM["pkg.yaml"].replace("depends: [demo/libhi]\n", "").replace("2.0", "2.1")}
    directory = tree(libhi=LIBRARY, hi=lonely)
    result = pkg("build", directory / "hi", status=1)
    assert "[package.failed]" in result.err
    assert "hi.h: No such file" in result.err
    assert "--after build" in result.err


def test_no_network_no_other_users_nothing_of_the_host(pkg: Program, tree: Tree, web: tuple[str, Path]) -> None:
    script = """
name: look
version: 1
phases:
  install: |
    mkdir -p $DESTDIR/usr/share
    { ls /sys/class/net 2>/dev/null || cat /proc/net/dev | tail -n +3 | cut -d: -f1
      hostname; id -u; umask; date +%Z; echo $LANG $SOURCE_DATE_EPOCH $JOBS $HOME; ls /home /root /mnt; ls /build
      touch /usr/x 2>&1 || true; env | sort
      perl -MIO::Socket::INET -e 'print IO::Socket::INET->new("ADDRESS") ? "reached" : "refused", "\\n"'
    } > $DESTDIR/usr/share/look 2>&1
"""
    directory = tree(look=script.replace("ADDRESS", web[0].removeprefix("http://")))
    pkg.with_environment(SECRET_OF_THE_CALLER="x1y2", TZ="Asia/Tokyo")("build", directory / "look")
    data = archive(pkg, "demo/look-1").decode()
    assert "SECRET_OF_THE_CALLER" not in data
    assert "Asia" not in data
    for expected in ("lo\n", "boxwright\n1000\n0022\nUTC\nC.UTF-8 315532800 4 /build/home", "Read-only file system"):
        assert expected in data, data
    assert "eth" not in data
    assert "\nrefused\n" in data


def test_the_same_bytes_elsewhere_and_otherwise(pkg: Program, tree: Tree, tmp_path: Path) -> None:
    """Another path, store, umask, time zone, locale, host name and file order."""
    first = tree(libhi=LIBRARY, hi=PROGRAM)
    second = tree("another/and/longer/place", libhi=dict(reversed(LIBRARY.items())), hi=PROGRAM)
    for path in second.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    pkg("build", first / "hi")
    other = Program(tmp_path / "store2", {"TZ": "Asia/Tokyo", "LC_ALL": "C", "LANG": "de_DE"})
    old = os.umask(0o077)
    try:
        done = subprocess.run(
            ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; umask 077; exec "$0" "$@"', conftest.PROGRAM, "build",
             second / "hi"],
            env=other.whole_environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    for name in ("demo/hi-2.0", "demo/libhi-1.0"):
        assert archive(pkg, name) == archive(other, name)
        assert record(pkg, name)["key"] == record(other, name)["key"]


@pytest.mark.ordinary_user
def test_an_ordinary_user_gets_the_same_bytes(
    pkg: Program, tree: Tree, ordinary_boxwright: Program, tmp_path: Path
) -> None:
    directory = tree(libhi=LIBRARY, hi=PROGRAM)
    pkg("build", directory / "hi")
    subprocess.run(["chmod", "-R", "a+rX", tmp_path], check=True)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    ordinary_boxwright("build", directory / "hi", cwd=directory)
    assert archive(pkg, "demo/hi-2.0") == archive(ordinary_boxwright, "demo/hi-2.0")
    assert record(pkg, "demo/hi-2.0")["key"] == record(ordinary_boxwright, "demo/hi-2.0")["key"]


TEXT = "name: {name}\nversion: 1\n{more}phases:\n  install: |\n    mkdir -p $DESTDIR/usr/share\n    {script}\n"


def text(name: str, script: str, more: str = "") -> str:
    return TEXT.format(name=name, script=script, more=more)


def test_comments_rebuild_nothing_and_equal_bytes_stop_the_rebuild(pkg: Program, tree: Tree) -> None:
    low = text("low", "echo 1 > $DESTDIR/usr/share/low")
    top = text("top", "cat /usr/share/low > $DESTDIR/usr/share/top", "depends: [demo/low]\n")
    directory = tree(low=low, top=top)
    first = pkg("build", directory / "top")
    assert first.err.count("Defaulting to local build") == 2

    tree(low=f"# a comment\n{low}  # another\n", top=top)
    second = pkg("build", directory / "top")
    assert "Defaulting" not in second.err
    assert second.out.split()[1] == first.out.split()[1]

    tree(low=low.replace("echo 1", "echo  1"), top=top)
    third = pkg("build", directory / "top")
    assert third.err.count("Defaulting to local build") == 1, "the same bytes: nothing above is built again"
    assert third.out.split()[1] != first.out.split()[1], "its HASH is another one, and stands for the same package"
    assert pkg("why-rebuild", third.out.split()[1], first.out.split()[1]).out == "the same identity\n"

    tree(low=low.replace("echo 1", "echo 2"), top=top)
    assert pkg("build", directory / "top").err.count("Defaulting to local build") == 2
    assert b"\n2\n" not in archive(pkg, "demo/top-1")
    assert b"2\n" in archive(pkg, "demo/top-1")


PATCH = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+{0}\n"


def test_patches_find_their_level_and_a_changed_one_rebuilds(pkg: Program, tree: Tree) -> None:
    more = 'sources: [{local: src}]\npatches: {p/change.patch: "because"}\n'
    files = {
        "pkg.yaml": text("patched", "cp f $DESTDIR/usr/share/f", more),
        "src/f": "one\n",
        "p/change.patch": PATCH.format("two"),
    }
    directory = tree(patched=files)
    pkg("build", directory / "patched")
    assert b"two\n" in archive(pkg, "demo/patched-1")
    sources = record(pkg, "demo/patched-1")["sources"]
    assert isinstance(sources, list)
    assert sources[1]["options"] == [["reason", "because"]]

    tree(patched={**files, "p/change.patch": PATCH.format("three").replace("a/f", "f").replace("b/f", "f")})
    result = pkg("build", directory / "patched")
    assert "Defaulting" in result.err
    assert b"three\n" in archive(pkg, "demo/patched-1")

    tree(patched={**files, "p/change.patch": PATCH.format("four").replace("-one", "-other")})
    failed = pkg("build", directory / "patched", status=1)
    assert "does not apply at any level" in failed.err


def test_owners_and_modes_are_declared(pkg: Program, tree: Tree) -> None:
    script = "mkdir -p $DESTDIR/var/lib/db && echo s > $DESTDIR/usr/share/s && chmod 4711 $DESTDIR/usr/share/s"
    directory = tree(owned=text("owned", script))
    failed = pkg("build", directory / "owned", status=1)
    assert "4711 /usr/share/s" in failed.err
    declared = "users: {db: {uid: 105}}\nowners:\n  /var/lib/db: {user: db, mode: 0700}\n  /usr/share/s: {mode: 4711}\n"
    tree(owned=text("owned", script, declared))
    pkg("build", directory / "owned")
    listed = subprocess.run(
        ["tar", "--numeric-owner", "-tvf", "-"], input=archive(pkg, "demo/owned-1"), capture_output=True, check=True
    ).stdout.decode()
    assert [line.split()[:2] for line in listed.splitlines() if line.endswith("/db/")] == [["drwx------", "105/105"]]
    assert [line.split()[:2] for line in listed.splitlines() if line.endswith("/s")] == [["-rws--x--x", "0/0"]]


def test_keep_going_builds_what_it_can(pkg: Program, tree: Tree) -> None:
    directory = tree(
        bad=text("bad", "exit 7"),
        good=text("good", "echo g > $DESTDIR/usr/share/g"),
        above=text("above", "true", "depends: [demo/bad]\n"),
        all=text("all", "true", "depends: [demo/above, demo/good]\n"),
    )
    result = pkg("build", directory / "all", "--keep-going", "--jobs", "1", status=1)
    assert "exit status 7" in result.err
    assert record(pkg, "demo/good-1")["name"] == "demo/good-1"
    assert "packages/demo/above'" not in result.err


def test_a_shell_before_and_after_a_phase(pkg: Program, tree: Tree) -> None:
    broken = text("broken", "echo made > here; exit 3", "sources: [{local: src}]\n")
    directory = tree(broken={"pkg.yaml": broken, "src/f": "one\n"})
    pkg("build", directory / "broken", status=1)
    before = pkg("shell", directory / "broken", "--before", "install", stdin="cat f; ls; exit 5\n", status=5)
    assert "one" in before.out
    assert "here" not in before.out
    after = pkg("shell", directory / "broken", "--after", "install", stdin="cat here; exit 6\n", status=6)
    assert "made" in after.out
    wrong = pkg("shell", directory / "broken", "--before", "compile", status=2)
    assert "[usage.phase]" in wrong.err


def test_why_rebuild_names_what_differs(pkg: Program, tree: Tree) -> None:
    directory = tree(why=text("why", "echo 1 > $DESTDIR/usr/share/w", "environment: {A: 1}\n"))
    first = pkg("build", directory / "why").out.split()[1]
    tree(why=text("why", "echo 1 > $DESTDIR/usr/share/w", "environment: {A: 2}\n"))
    assert pkg("why-rebuild", first[:12], directory / "why").out.splitlines() == ["environment A: 1 -> 2"]
    second = pkg("build", directory / "why").out.split()[1]
    assert pkg("why-rebuild", first, second).out.splitlines() == ["environment A: 1 -> 2"]
    assert pkg("why-rebuild", second, "demo/why-1").out.splitlines() == ["the same identity"]


def test_why_rebuild_looks_through_what_was_not_built(pkg: Program, tmp_path: Path) -> None:
    base = tmp_path / "never-read.tar"
    base.write_bytes(os.urandom(512))
    for name, echoed in (("one", "echo 1"), ("two", "echo 2"), ("three", "echo 1 # the same but for this")):
        for package, more in (("low", ""), ("middle", "depends: [../low]\n"), ("app", "depends: [../middle]\n")):
            directory = tmp_path / name / package
            directory.mkdir(parents=True)
            script = f"{echoed.partition(' #')[0] if package == 'low' else 'true'} > $DESTDIR/usr/share/{package}"
            comment = f"#{echoed.partition('#')[2]}\n"
            (directory / "pkg.yaml").write_text(f"{comment}toolchain: tar:{base}\n{text(package, script, more)}")
    apps = [tmp_path / name / "app" for name in ("one", "two", "three")]
    (line, *_) = pkg("why-rebuild", apps[0], apps[1]).out.splitlines()
    assert line.startswith("dependency ")
    assert pkg("why-rebuild", apps[0], apps[2]).out == "the same identity\n"


def test_a_failing_test_fails_the_build(pkg: Program, tree: Tree) -> None:
    files = {**PROGRAM, "pkg.yaml": PROGRAM["pkg.yaml"].replace("hi from the library\"'", "something else\"'")}
    directory = tree(libhi=LIBRARY, hi=files)
    result = pkg("build", directory / "hi", status=1)
    assert "[package.test-failed]" in result.err
    pkg("build", directory / "hi", "--no-test")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on the loopback interface: its address and its directory."""
    directory = tmp_path / "web"
    directory.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing is logged."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", directory
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls_are_checked_kept_and_mirrored(pkg: Program, tree: Tree, web: tuple[str, Path]) -> None:
    address, directory = web
    (directory / "x-1").mkdir()
    (directory / "x-1" / "f").write_text(os.urandom(8).hex())
    subprocess.run(["tar", "-C", directory, "-czf", directory / "x-1.tar.gz", "x-1"], check=True)
    digest = hashlib.sha256((directory / "x-1.tar.gz").read_bytes()).hexdigest()
    script = "cp f $DESTDIR/usr/share/f"

    packages = tree(x=text("x", script, f"sources: [{{url: '{address}/x-{{version}}.tar.gz'}}]\n"))
    missing = pkg("build", packages / "x", status=2)
    assert "[package.no-checksum]" in missing.err
    assert f"sha256: {digest}" in missing.err

    source = f"{{url: '{address}/gone.tar.gz', sha256: {digest}, mirrors: ['{address}/x-1.tar.gz']}}"
    tree(x=text("x", script, f"sources: [{source}]\n"))
    (directory / "gone.tar.gz").write_text("something else")
    shutil.rmtree(pkg.home / "blobs")
    pkg("build", packages / "x")
    assert (directory / "x-1" / "f").read_bytes() in archive(pkg, "demo/x-1")

    (directory / "x-1.tar.gz").unlink()
    tree(x=text("x", f"{script}; echo again", f"sources: [{source}]\n"))
    pkg("build", packages / "x")  # offline now

    tree(x=text("x", script, f"sources: [{{url: '{address}/gone.tar.gz', sha256: {'1' * 64}}}]\n"))
    wrong = pkg("build", packages / "x", status=5)
    assert "[source.checksum]" in wrong.err


def test_git_and_a_lock(pkg: Program, tree: Tree, web: tuple[str, Path], tmp_path: Path) -> None:
    address, directory = web
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "f").write_text("from git\n")
    git = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    (directory / "extra").write_text("extra\n")
    more = f"sources:\n  - {{git: 'file://{repository}', commit: {commit}}}\n"
    more += f"  - {{url: '{address}/extra', unpack: false}}\n"
    packages = tree(g=text("g", "cat f extra > $DESTDIR/usr/share/f", more))
    pkg("build", packages / "g", status=2)
    pkg("lock", packages / "g")
    lock = json.loads((packages / "g" / "boxwright.lock").read_text())
    assert lock["git"] == {f"file://{repository}": commit}
    assert lock["urls"] == {f"{address}/extra": hashlib.sha256(b"extra\n").hexdigest()}
    assert len(lock["bases"]) == 1
    pkg("build", packages / "g")
    assert b"from git\nextra\n" in archive(pkg, "demo/g-1")
    assert lock["packages"] == {"demo/g-1": record(pkg, "demo/g-1")["definition"]}

    tree(g=text("g", "true", more.replace("/extra", "/other")))
    unpinned = pkg("build", packages / "g", status=2)
    assert "[lock.missing]" in unpinned.err


@pytest.mark.long
def test_source_and_binary_packages_of_the_distribution(pkg: Program, tree: Tree) -> None:
    asked = ["apt-cache", "show", "hello", "libargon2-1"]
    policy = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    names = [line[9:] for line in policy.splitlines() if line.startswith("Package: ")]
    numbers = [line[9:] for line in policy.splitlines() if line.startswith("Version: ")]
    versions = dict(reversed(list(zip(names, numbers, strict=True))))  # the newest is listed first
    more = f"sources:\n  - debian: {{package: hello, version: {versions['hello']}}}\n"
    more += f"build-depends: [debian/libargon2-1={versions['libargon2-1']}]\n"
    script = "cp configure.ac $DESTDIR/usr/share/; ls $LIBDIR/libargon2.so.1; ls debian/rules"
    tools = {"toolchain": "{packages: [dpkg-dev, patch]}"}
    packages = tree(d=text("d", script, more) + f"toolchain: {tools['toolchain']}\n")
    pkg("build", packages / "d")
    assert b"GNU Hello" in archive(pkg, "demo/d-1")


HELLO = "31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b"
"""hello-2.10.tar.gz, as GNU published it; Debian 12 and 13 have it."""


def test_a_mirror_without_a_version_is_any_that_has_the_bytes(pkg: Program, tree: Tree) -> None:
    source = "sources: [{url: 'http://127.0.0.1:9/hello.tar.gz', sha256: DIGEST, mirrors: ['debian:hello']}]\n"
    script = "cp configure.ac $DESTDIR/usr/share/"
    packages = tree(mirrored=text("mirrored", script, source.replace("DIGEST", HELLO)))
    pkg("build", packages / "mirrored")
    assert b"GNU Hello" in archive(pkg, "demo/mirrored-1")

    tree(mirrored=text("mirrored", script, source.replace("DIGEST", "0" * 64)))
    failed = pkg("build", packages / "mirrored", status=5)
    assert "[source.fetch]" in failed.err
    assert "no version of the source package hello" in failed.err


def test_configure_is_given_the_run_directory_where_it_knows_it(pkg: Program, tree: Tree) -> None:
    configure = '#!/bin/sh\n# {}\necho "$@" >given\n'
    makefile = "all:\ninstall:\n\tmkdir -p $(DESTDIR)/usr/share && cp given $(DESTDIR)/usr/share/\n"
    definition = "version: 1\nsources: [{local: src}]\nbuild-system: autotools\narguments: ['two words', '$HOME']\n"
    for name, known in (("older", "--prefix"), ("newer", "-runstatedir | --runstatedir")):
        files = {"pkg.yaml": f"name: {name}\n{definition}", "src/Makefile": makefile}
        directory = tree(**{name: {**files, "src/configure": configure.format(known)}}) / name
        (directory / "src/configure").chmod(0o755)
        pkg("build", directory)
        given = archive(pkg, f"demo/{name}-1")
        assert b"two words $HOME\n" in given
        assert (b"--runstatedir=/run" in given) == (name == "newer")


def test_a_toolchain_without_patch_is_named(pkg: Program, tree: Tree, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "usr/bin/sh")
    subprocess.run(["tar", "-cf", tmp_path / "shell.tar", "-C", root, "."], check=True)
    files = {
        "pkg.yaml": f"name: patched\nversion: 1\npatches: {{p: why}}\ntoolchain: 'tar:{tmp_path}/shell.tar'\n",
        "p": PATCH.format("two"),
    }
    failed = pkg("build", tree(patched=files) / "patched", status=1)
    assert "[package.no-patch]" in failed.err


def test_where_a_directory_holds_several_definitions_none_is_guessed(pkg: Program, tree: Tree) -> None:
    directory = tree(two={"pkg.yaml": text("two", "true"), "Recipe": "FROM scratch\n"})
    result = pkg("build", directory / "two", status=2)
    assert "[definition.several]" in result.err
    pkg("build", directory / "two", "-f", "pkg.yaml")


def test_the_schema_is_json_schema(pkg: Program) -> None:
    schema = json.loads(pkg("schema", "package").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
